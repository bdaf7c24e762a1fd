"""Stages of the modes vote, best, clues, check and shots: what is written between the image and the last answer.

Thin: `racro.evaluation.rounds` asks the models, `racro.rewards.choosing` and `racro.evaluation.examples` choose. Each
has the timeout of the stage that its name begins with.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from prefect import Task, get_run_logger

from racro import config as recipes
from racro.engines.protocol import Sampling
from racro.evaluation import examples, modes, rounds
from racro.evaluation.parts import questions_of
from racro.prompts import (
    ASK_CLUES_DIGEST,
    CAPTION_AGAIN_DIGEST,
    CAPTION_DIGEST,
    CHECK_DIGEST,
    CHECKED_DIGEST,
    CLUE_DIGEST,
    CLUES_DIGEST,
    SHOTS_DIGEST,
)
from racro.rewards import choosing
from racro.rewards.kinds import KINDS
from racro.rewards.protocol import Kind, Means
from racro.rollouts.looking import asked_of
from racro.schema import (
    FrozenModel,
    Mode,
    ModelOutput,
    Policy,
    Problem,
    ProblemTable,
    QuestionPart,
    Rollout,
    Shot,
    ShotTable,
    WritingTable,
)
from racro.storage import artifacts
from racro.storage.files import listing
from tasks.generate import NextAnswers, answer_sampling, base_seed, table
from tasks.reward import Judges, judge_models
from tasks.running.engines import captioner_engine, reasoner_engine
from tasks.running.policies import Output, stage
from tasks.running.progress import Progress

FEWER = "mode shots: %d solved examples are asked for; there are %d, of %d training problems that were drawn"
"""What is said when there are fewer problems, or some of them got no finished caption."""
ROLLOUTS = "rollouts"
"""Folder beside a table of sampled captions, with the tokens that rewards look at."""

# --- vote and best ----------------------------------------------------------------------------------------------------


@stage("describe-samples", version=1, prompts=CAPTION_DIGEST)
def describe_samples(
    output: Output,
    part: QuestionPart,
    policy: Policy,
    captioner: recipes.Captioner,
    max_tokens: int,
    captions: int,
    temperature: float,
    top_p: float,
    seed: int,
    runtime: recipes.Runtime,
    root: str,
) -> WritingTable:
    """Several sampled captions of each question's images; beside the table, the same with their tokens."""
    questions, progress = questions_of(part), Progress("describe-samples", "questions")
    engine = captioner_engine(captioner, policy, runtime)
    sampling = Sampling(captions, temperature, top_p, max_tokens, runtime.request_deadline)
    found = list(rounds.sample_captions(questions, _images(part), policy.digest, engine, sampling, seed, progress))
    made = table(output, questions, [row for rows, _ in found for row in rows], progress)
    places = {question.uid: place for place, question in enumerate(questions)}
    rollouts = sorted((row for _, rows in found for row in rows), key=lambda row: (places[row.uid], row.sample))
    artifacts.write_table(f"{output.folder}/{ROLLOUTS}", rollouts, Rollout)
    return made


def _choosing_stage(name: str, kind: type[Kind[Any]]) -> Task[..., Any]:
    @stage(f"describe-best-{name}", version=kind.version, prompts=kind.prompts)
    def describe_best(
        output: Output,
        part: QuestionPart,
        samples: WritingTable,
        settings: recipes.Reward,
        policy: Policy | None,
        captioner: recipes.Captioner | None,
        seed: int,
        runtime: recipes.Runtime,
        root: str,
        judges: Judges | None = None,
        judge_names: dict[str, str] | None = None,
    ) -> WritingTable:
        """Of the sampled captions of each question, the one that the reward likes best."""
        questions, progress = questions_of(part), Progress(f"describe-best, {name}", "captions")
        rows = list(artifacts.read_table(samples, ModelOutput))
        rollouts = _rollouts(samples, rows)
        means = Means(
            seed=seed,
            iteration=0,
            deadline=runtime.request_deadline,
            policy=captioner_engine(captioner, policy, runtime) if captioner and policy else None,
            judges=judge_models(judges, judge_names, runtime),
            images=part.uri,
            progress=progress,
        )
        values = choosing.values(settings, questions, rollouts, means)
        chosen = rounds.favourites(rows, rollouts, [found.value for found in values])
        made = table(output, questions, chosen, progress)
        output.metrics["captions"] = len(values)
        output.metrics["unscored"] = sum(found.value is None for found in values)
        return made

    return describe_best


DESCRIBE_BEST: dict[str, Task[..., Any]] = {
    name: _choosing_stage(name, kind) for name, kind in KINDS.items() if choosing.able(name)
}
"""The stage of each kind of reward that can choose."""


def _rollouts(samples: WritingTable, rows: Sequence[ModelOutput]) -> list[Rollout]:
    """The tokens of sampled captions. Raises BadArtifact."""
    files = listing(f"{samples.uri}/{ROLLOUTS}")
    found = [row for file in files for row in artifacts.read_shard(file, Rollout)]
    if len(found) != sum(row.error is None for row in rows):
        raise artifacts.BadArtifact(f"{samples.uri}/{ROLLOUTS} is not complete; delete {samples.uri} and run again")
    return found


# --- clues ------------------------------------------------------------------------------------------------------------


@stage("answer-asking", version=1, prompts=ASK_CLUES_DIGEST)
def ask_clues(
    output: Output,
    part: QuestionPart,
    captions: WritingTable,
    count: int,
    reasoner_model: FrozenModel,
    reasoner: recipes.Reasoner,
    temperature: float,
    top_p: float,
    seed: int,
    runtime: recipes.Runtime,
    root: str,
) -> WritingTable:
    """The reasoner's sub-questions to each question, in one text."""
    questions, progress = questions_of(part), Progress("answer-asking", "questions")
    how = NextAnswers(reasoner, reasoner_model, temperature, top_p, 1, seed)
    engine, sampling = reasoner_engine(reasoner, reasoner_model, runtime), answer_sampling(how, runtime)
    asked = rounds.ask_clues(questions, _read(captions), count, engine, sampling, base_seed(how), progress)
    return table(output, questions, asked, progress)


@stage("describe-clues", version=1, prompts=CLUE_DIGEST)
def answer_clues(
    output: Output,
    part: QuestionPart,
    asked: WritingTable,
    count: int,
    policy: Policy,
    captioner: recipes.Captioner,
    max_tokens: int,
    runtime: recipes.Runtime,
    root: str,
) -> WritingTable:
    """The captioner's greedy answers to the sub-questions: of each question one text, which holds both."""
    questions, progress = questions_of(part), Progress("describe-clues", "sub-questions")
    engine = captioner_engine(captioner, policy, runtime)
    sampling = Sampling(1, 0.0, 1.0, max_tokens, runtime.request_deadline)
    answered = rounds.answer_clues(questions, _images(part), _read(asked), count, engine, sampling, progress)
    return table(output, questions, answered, progress)


# --- check ------------------------------------------------------------------------------------------------------------


@stage("describe-again", version=1, prompts=CAPTION_AGAIN_DIGEST)
def caption_again(
    output: Output,
    part: QuestionPart,
    checked: WritingTable,
    policy: Policy,
    captioner: recipes.Captioner,
    max_tokens: int,
    runtime: recipes.Runtime,
    root: str,
) -> WritingTable:
    """A greedy second caption where the reasoner says what is missing; an empty text elsewhere."""
    questions, progress = questions_of(part), Progress("describe-again", "questions")
    engine = captioner_engine(captioner, policy, runtime)
    sampling = Sampling(1, 0.0, 1.0, max_tokens, runtime.request_deadline)
    checks = _read(checked)
    made = table(
        output, questions, rounds.caption_again(questions, _images(part), checks, engine, sampling, progress), progress
    )
    output.metrics["asked_again"] = len(rounds.lacking(questions, checks))
    return made


# --- shots ------------------------------------------------------------------------------------------------------------


@stage("describe-shots", version=1, prompts=CAPTION_DIGEST)
def describe_shots(
    output: Output,
    problems: ProblemTable,
    count: int,
    policy: Policy,
    captioner: recipes.Captioner,
    max_tokens: int,
    seed: int,
    runtime: recipes.Runtime,
    root: str,
) -> ShotTable:
    """Solved examples: training problems drawn by seed, with greedy captions. Raises NoShots."""
    progress = Progress("describe-shots", "problems")
    drawn = examples.draw(list(artifacts.read_table(problems, Problem)), count, seed)
    engine = captioner_engine(captioner, policy, runtime)
    shots = examples.captioned(drawn, problems.uri, engine, max_tokens, runtime.request_deadline, progress)
    progress.finish()
    output.shards = artifacts.write_table(output.folder, shots, Shot)
    output.metrics = {"drawn": len(drawn), "shots": len(shots)}
    if len(shots) < count:
        get_run_logger().warning(FEWER, count, len(shots), len(drawn))
    return ShotTable(uri=output.folder, rows=len(shots), digest=artifacts.table_digest(output.shards))


# --- answers ----------------------------------------------------------------------------------------------------------


def _answering_stage(name: str, mode: Mode, prompts: str) -> Task[..., Any]:
    @stage(name, version=1, prompts=prompts)
    def answer_in_rounds(
        output: Output,
        part: QuestionPart,
        captions: WritingTable,
        attempts: WritingTable | None,
        checked: WritingTable | None,
        shots: ShotTable | None,
        reasoner_model: FrozenModel,
        reasoner: recipes.Reasoner,
        temperature: float,
        top_p: float,
        samples: int,
        seed: int,
        runtime: recipes.Runtime,
        root: str,
    ) -> WritingTable:
        """The reasoner's `samples` answers to each question. `attempts`: what the captioner wrote after the caption."""
        questions, progress = questions_of(part), Progress(name, "questions")
        how = NextAnswers(reasoner, reasoner_model, temperature, top_p, samples, seed)
        engine, sampling = reasoner_engine(reasoner, reasoner_model, runtime), answer_sampling(how, runtime)
        captioned, more = _read(captions), _read(attempts)
        given = list(artifacts.read_table(shots, Shot)) if shots else []
        if checked is None:
            answers = modes.answer(mode, questions, captioned, more, engine, sampling, base_seed(how), progress, given)
        else:
            answers = rounds.answer_again(
                questions, captioned, more, _read(checked), engine, sampling, base_seed(how), progress
            )
        return table(output, questions, answers, progress)

    return answer_in_rounds


answer_clued = _answering_stage("answer-clues", "clues", CLUES_DIGEST)
check = _answering_stage("answer-check", "check", CHECK_DIGEST)
"""The first answers, any of which may say that the caption is not enough."""
answer_checked = _answering_stage("answer-again", "check", CHECKED_DIGEST)
"""The final ones: from both captions where there are two."""
answer_after_shots = _answering_stage("answer-shots", "shots", SHOTS_DIGEST)


def _images(part: QuestionPart) -> rounds.AskedOf:
    """Where the images of a part's questions are."""
    return functools.partial(asked_of, images_base=part.uri)


def _read(written: WritingTable | None) -> list[ModelOutput]:
    return list(artifacts.read_table(written, ModelOutput)) if written else []
