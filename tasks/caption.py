"""Stage caption: the problems of one iteration, captioned by the policy. Thin: `racro.rollouts.captioner` does it."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from racro import config as recipes
from racro.engines.opening import prefetches
from racro.prompts import CAPTION_DIGEST
from racro.rollouts import captioner as captioning
from racro.rollouts.reasoner import no_question, question_to, training_sampling
from racro.schema import FrozenModel, Policy, Problem, ProblemTable, Rollout, RolloutTable
from racro.storage import artifacts
from tasks.running.engines import captioner_engine, reasoner_engine
from tasks.running.policies import Output, stage
from tasks.running.progress import Progress
from tasks.running.refusals import Refusals


class TooManyRefused(RuntimeError):
    """So many problems cannot be captioned that training on the rest would be training on chance."""


@stage("caption", version=1, prompts=CAPTION_DIGEST)
def caption(
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
) -> RolloutTable:
    """G captions for each problem of iteration `iteration`. Raises TooManyRefused.

    A problem that the engine refuses has no captions and is not in the table; `max_unscored` is the share of them above
    which the stage fails. `ahead`: the reasoner that the next stage asks. If it can prefetch, it gets each caption as
    it comes.
    """
    pool = list(artifacts.read_table(problems, Problem))
    chosen = captioning.select(pool, rollout.problems, seed, iteration)
    progress, refused = Progress(f"caption {iteration}", "problems"), Refusals("captioned")
    pass_on = _to_reasoner(ahead, chosen, seed, iteration, runtime)
    rows = []
    for row in captioning.caption(
        chosen,
        problems.uri,
        policy.digest,
        captioner_engine(captioner, policy, runtime),
        rollout,
        seed,
        iteration,
        runtime.request_deadline,
        progress,
        refused,
    ):
        rows.append(row)
        pass_on(row)
    progress.finish()
    if not rows or refused.problems > max_unscored * len(chosen):
        raise TooManyRefused(
            f"iteration {iteration}: {refused.problems} of {len(chosen)} problems cannot be captioned, so too few are "
            f"left to train on (reward.max_unscored = {max_unscored}). Problem {refused}"
        )
    rows = captioning.in_order(rows, chosen)
    output.shards = artifacts.write_table(output.folder, rows, Rollout)
    tokens = [len(row.completion_ids) for row in rows]
    output.metrics = {
        "captions": len(rows),
        "problems": len(chosen),
        "problems_asked": rollout.problems,
        "tokens": sum(tokens),
        "tokens_mean": statistics.fmean(tokens),
        "cut_share": statistics.fmean(row.finish_reason != "stop" for row in rows),
    } | refused.metrics
    return RolloutTable(uri=output.folder, rows=len(rows), digest=artifacts.table_digest(output.shards))


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
