"""Stages describe, attempt and answer: what captioner and reasoner write about one part of a benchmark.

Thin: `racro.evaluation.modes` asks. The training's captions are another stage, sampled in groups with their log-probs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from racro import config as recipes
from racro.engines.protocol import Engine, Sampling, prompt_seed
from racro.evaluation import modes
from racro.prompts import (
    ANSWER_DIGEST,
    CAPTION_DIGEST,
    TENTATIVE_DIGEST,
    Message,
    caption_messages,
    tentative_messages,
)
from racro.schema import FrozenModel, Mode, Policy, QuestionPart, Writing, WritingTable
from racro.storage import artifacts
from tasks.evaluate import NothingEvaluated
from tasks.questions import questions_of
from tasks.running.engines import captioner_engine, reasoner_engine
from tasks.running.policies import Output, stage
from tasks.running.progress import Progress


@stage("describe", version=1, prompts=CAPTION_DIGEST)
def describe(
    output: Output,
    part: QuestionPart,
    policy: Policy,
    captioner: recipes.Captioner,
    max_tokens: int,
    runtime: recipes.Runtime,
    root: str,
) -> WritingTable:
    """A greedy caption of each question's images."""
    engine = captioner_engine(captioner, policy, runtime)
    return _look(output, part, engine, caption_messages, max_tokens, runtime, Progress("describe", "questions"))


@stage("attempt", version=1, prompts=TENTATIVE_DIGEST)
def attempt(
    output: Output,
    part: QuestionPart,
    policy: Policy,
    captioner: recipes.Captioner,
    max_tokens: int,
    runtime: recipes.Runtime,
    root: str,
) -> WritingTable:
    """The captioner's own greedy answer to each question: the tentative answer of joint inference."""
    engine = captioner_engine(captioner, policy, runtime)
    return _look(output, part, engine, tentative_messages, max_tokens, runtime, Progress("attempt", "questions"))


def _look(
    output: Output,
    part: QuestionPart,
    engine: Engine,
    messages: Callable[[str, int], list[Message]],
    max_tokens: int,
    runtime: recipes.Runtime,
    progress: Progress,
) -> WritingTable:
    written = modes.look(questions_of(part), part.uri, engine, messages, max_tokens, runtime.request_deadline, progress)
    return _table(output, written, progress)


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
    progress = Progress(f"answer, {mode}", "questions")
    described, attempted = (list(artifacts.read_table(t, Writing)) if t else [] for t in (captions, attempts))
    written = modes.answer(
        mode,
        questions_of(part),
        described,
        attempted,
        reasoner_engine(reasoner, reasoner_model, runtime),
        Sampling(samples, temperature, top_p, reasoner.max_tokens, runtime.request_deadline),
        prompt_seed(seed, "evaluate"),
        progress,
    )
    return _table(output, written, progress)


def _table(output: Output, written: Iterable[Writing], progress: Progress) -> WritingTable:
    rows = list(written)
    progress.finish()
    if all(row.finish_reason == "deadline" and row.error is None for row in rows):
        # Not recorded: with more time, or engines that work, the same command shall ask again.
        raise NothingEvaluated(
            f"none of {len(rows)} texts was finished in time; raise runtime.request_deadline, or look at the engines"
        )
    output.shards = artifacts.write_table(output.folder, rows, Writing)
    output.metrics = {
        "tokens": sum(row.tokens for row in rows),
        "cut": sum(row.finish_reason == "length" for row in rows),
        "refused": sum(row.error is not None for row in rows),
    }
    return WritingTable(uri=output.folder, rows=len(rows), digest=artifacts.table_digest(output.shards))
