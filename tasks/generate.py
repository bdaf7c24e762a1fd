"""Stages describe, attempt and answer: what captioner and reasoner write about one part of a benchmark.

Thin: `racro.evaluation.modes` asks the models. The captions that a training learns from come from another stage, which
samples them in groups with their log-probs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from racro import config as recipes
from racro.engines.opening import prefetches
from racro.engines.protocol import Sampling, prompt_seed
from racro.evaluation import modes
from racro.evaluation.parts import questions_of
from racro.evaluation.results import NothingEvaluated
from racro.prompts import (
    ANSWER_DIGEST,
    ATTEMPT_DIGEST,
    CAPTION_DIGEST,
    Message,
    attempt_messages,
    caption_messages,
)
from racro.rollouts.final import final_request
from racro.rollouts.reasoner import no_question
from racro.rollouts.thoughts import spoken
from racro.schema import FrozenModel, Mode, ModelOutput, Policy, Question, QuestionPart, WritingTable
from racro.storage import artifacts
from tasks.running.engines import captioner_engine, reasoner_engine
from tasks.running.policies import Output, stage
from tasks.running.progress import Progress


class NextAnswers(NamedTuple):
    """The reasoner that will answer from the captions (mode `caption`), and how."""

    reasoner: recipes.Reasoner
    model: FrozenModel
    temperature: float
    top_p: float
    samples: int
    seed: int


@stage("describe", version=1, prompts=CAPTION_DIGEST)
def describe(
    output: Output,
    part: QuestionPart,
    policy: Policy,
    captioner: recipes.Captioner,
    max_tokens: int,
    runtime: recipes.Runtime,
    root: str,
    ahead: NextAnswers | None = None,
) -> WritingTable:
    """A greedy caption of each question's images.

    `ahead`: the reasoner that stage answer will ask. If it can prefetch, it gets each caption as it comes.
    """
    questions, progress = questions_of(part), Progress("describe", "questions")
    captions = _captioner_outputs(questions, part, policy, captioner, caption_messages, max_tokens, runtime, progress)
    return table(output, questions, _passed_on(questions, captions, ahead, runtime), progress)


@stage("attempt", version=1, prompts=ATTEMPT_DIGEST)
def attempt(
    output: Output,
    part: QuestionPart,
    policy: Policy,
    captioner: recipes.Captioner,
    max_tokens: int,
    runtime: recipes.Runtime,
    root: str,
) -> WritingTable:
    """The captioner's own greedy answer to each question, which joint inference shows to the reasoner."""
    questions, progress = questions_of(part), Progress("attempt", "questions")
    attempts = _captioner_outputs(questions, part, policy, captioner, attempt_messages, max_tokens, runtime, progress)
    return table(output, questions, attempts, progress)


@stage("answer", version=1, prompts=ANSWER_DIGEST)
def answer(
    output: Output,
    mode: Mode,
    part: QuestionPart,
    captions: WritingTable | None,
    attempts: WritingTable | None,
    reasoner_model: FrozenModel,
    reasoner: recipes.Reasoner,
    temperature: float,
    top_p: float,
    samples: int,
    seed: int,
    runtime: recipes.Runtime,
    root: str,
) -> WritingTable:
    """The reasoner's `samples` answers to each question."""
    questions, progress = questions_of(part), Progress(f"answer, {mode}", "questions")
    captioned, attempted = (list(artifacts.read_table(t, ModelOutput)) if t else [] for t in (captions, attempts))
    how = NextAnswers(reasoner, reasoner_model, temperature, top_p, samples, seed)
    engine = reasoner_engine(reasoner, reasoner_model, runtime)
    moved = engine.moved
    answers = modes.answer(
        mode,
        questions,
        captioned,
        attempted,
        engine,
        answer_sampling(how, runtime),
        base_seed(how),
        progress,
    )
    written = table(output, questions, answers, progress)
    output.metrics["moved"] = engine.moved - moved
    return written


def _captioner_outputs(
    questions: list[Question],
    part: QuestionPart,
    policy: Policy,
    captioner: recipes.Captioner,
    messages: Callable[[str, int], list[Message]],
    max_tokens: int,
    runtime: recipes.Runtime,
    progress: Progress,
) -> Iterator[ModelOutput]:
    engine = captioner_engine(captioner, policy, runtime)
    return modes.captioner_outputs(
        questions, part.uri, engine, messages, max_tokens, runtime.request_deadline, progress
    )


def _passed_on(
    questions: list[Question], captions: Iterable[ModelOutput], ahead: NextAnswers | None, runtime: recipes.Runtime
) -> Iterator[ModelOutput]:
    """The captions, each handed to the reasoner on the way if it can prefetch."""
    if ahead is None or not prefetches(ahead.reasoner, runtime):
        yield from captions  # an engine that cannot prefetch is not opened before its stage
        return
    engine = reasoner_engine(ahead.reasoner, ahead.model, runtime)
    asked = {question.uid: question.question for question in questions}
    for caption in captions:
        if no_question(text := spoken(caption.text), caption.finish_reason) is None:
            inputs = (asked[caption.uid], text)
            engine.prefetch([final_request("caption", inputs, answer_sampling(ahead, runtime), base_seed(ahead))])
        yield caption


def answer_sampling(how: NextAnswers, runtime: recipes.Runtime) -> Sampling:
    """How the reasoner is sampled."""
    return Sampling(how.samples, how.temperature, how.top_p, how.reasoner.max_tokens, runtime.request_deadline)


def base_seed(how: NextAnswers) -> int:
    """The seed from which those of the prompts are made."""
    return prompt_seed(how.seed, "evaluate")


def table(
    output: Output, questions: list[Question], outputs: Iterable[ModelOutput], progress: Progress
) -> WritingTable:
    """Write what a model wrote about the questions, in their order. Raises NothingEvaluated."""
    rows = modes.in_order(outputs, questions)
    progress.finish()
    if all(row.finish_reason == "deadline" and row.error is None for row in rows):
        # Not recorded: with more time, or engines that work, the same command has to ask again.
        raise NothingEvaluated(
            f"{questions[0].benchmark}: none of {len(rows)} texts was finished in time; raise "
            "runtime.request_deadline, or look at the engines"
        )
    output.shards = artifacts.write_table(output.folder, rows, ModelOutput)
    output.metrics = {
        "tokens": sum(row.tokens for row in rows),
        "cut": sum(row.finish_reason == "length" for row in rows),
        "refused": sum(row.error is not None for row in rows),
    }
    return WritingTable(uri=output.folder, rows=len(rows), digest=artifacts.table_digest(output.shards))
