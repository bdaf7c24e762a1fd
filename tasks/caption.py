"""Stages caption and solve: the problems of one iteration, captioned or answered by the policy.

Thin: `racro.rollouts.captioner` does it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from prefect import Task

from racro import config as recipes
from racro.engines.opening import prefetches
from racro.prompts import ATTEMPT_DIGEST, CAPTION_DIGEST
from racro.rollouts import captioner as captioning
from racro.rollouts.reasoner import no_question, question_to, training_sampling
from racro.schema import FrozenModel, Policy, Problem, ProblemTable, Rollout, RolloutTable, Standing, StandingTable
from racro.storage import artifacts
from tasks.running.engines import captioner_engine, reasoner_engine
from tasks.running.policies import Output, stage
from tasks.running.progress import Progress
from tasks.running.refusals import Refusals


class TooManyRefused(RuntimeError):
    """So many problems cannot be captioned that training on the rest would be training on chance."""


def _stage_of(name: str, objective: recipes.Objective, prompts: str) -> Task[..., Any]:
    @stage(name, version=1, prompts=prompts)
    def write(
        output: Output,
        problems: ProblemTable,
        policy: Policy,
        captioner: recipes.Captioner,
        rollout: recipes.RolloutSettings,
        seed: int,
        iteration: int,
        runtime: recipes.Runtime,
        root: str,
        max_unscored: float,
        ahead: tuple[recipes.Reasoner, FrozenModel] | None = None,
        chosen: StandingTable | None = None,
    ) -> RolloutTable:
        """G captions for each problem of iteration `iteration`. Raises TooManyRefused.

        A problem that the engine refuses has no captions and is not in the table; `max_unscored` is the share of them
        above which the stage fails. `ahead`: the reasoner that the next stage asks. If it can prefetch, it gets each
        caption as it comes. `chosen`: the problems by a curriculum or of a refill; None: the next ones on the walk
        through all.
        """
        pool = list(artifacts.read_table(problems, Problem))
        asked = _chosen(pool, chosen) if chosen else captioning.select(pool, rollout.problems, seed, iteration)
        progress, refused = Progress(f"{name} {iteration}", "problems"), Refusals("captioned")
        pass_on = _to_reasoner(ahead, asked, seed, iteration, runtime)
        rows = []
        for row in captioning.caption(
            asked,
            problems.uri,
            policy.digest,
            captioner_engine(captioner, policy, runtime),
            rollout,
            seed,
            iteration,
            runtime.request_deadline,
            progress,
            refused,
            objective,
        ):
            rows.append(row)
            pass_on(row)
        progress.finish()
        refill = chosen is not None and chosen.round > 0
        if not refill and (not rows or refused.problems > max_unscored * len(asked)):
            raise TooManyRefused(
                f"iteration {iteration}: {refused.problems} of {len(asked)} problems cannot be captioned, so too few "
                f"are left to train on (the smallest max_unscored of the rewards is {max_unscored}). Problem {refused}"
            )
        rows = captioning.in_order(rows, asked)
        output.shards = artifacts.write_table(output.folder, rows, Rollout)
        tokens = [len(row.completion_ids) for row in rows]
        output.metrics = {
            "captions": len(rows),
            "problems": len(asked),
            "problems_asked": rollout.problems,
            "tokens": sum(tokens),
            "tokens_mean": statistics.fmean(tokens) if tokens else 0.0,
            "cut_share": statistics.fmean(row.finish_reason != "stop" for row in rows) if rows else 0.0,
        } | refused.metrics
        return RolloutTable(uri=output.folder, rows=len(rows), digest=artifacts.table_digest(output.shards))

    return write


caption = _stage_of("caption", "caption", CAPTION_DIGEST)
solve = _stage_of("solve", "answer", ATTEMPT_DIGEST)
"""The policy's own answers in place of captions: stages whose objective is `answer`."""
STAGES: dict[recipes.Objective, Task[..., Any]] = {"caption": caption, "answer": solve}
"""The stage of each objective."""


def _chosen(pool: list[Problem], chosen: StandingTable) -> list[Problem]:
    known = {problem.uid: problem for problem in pool}
    return [known[row.uid] for row in artifacts.read_table(chosen, Standing) if row.round == chosen.round]


def _to_reasoner(
    ahead: tuple[recipes.Reasoner, FrozenModel] | None,
    problems: list[Problem],
    seed: int,
    iteration: int,
    runtime: recipes.Runtime,
) -> Callable[[Rollout], None]:
    """What to do with each finished caption: have the reasoner prefetch its answer, or nothing."""
    if ahead is None or not prefetches(ahead[0], runtime):
        return lambda row: None  # an engine that cannot prefetch is not opened before its stage
    engine = reasoner_engine(*ahead, runtime)
    questions = {problem.uid: problem.question for problem in problems}
    how = training_sampling(ahead[0], seed, iteration, runtime.request_deadline)

    def pass_on(row: Rollout) -> None:
        if no_question(row.caption, row.finish_reason) is None:
            engine.prefetch([question_to(questions[row.uid], row.caption, *how)])

    return pass_on
