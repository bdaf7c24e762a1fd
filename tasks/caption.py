"""Stage caption: the problems of one iteration, captioned by the policy. Thin: `racro.rollouts.captioner` does it."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from racro import config as recipes
from racro.engines.prefetcher import Ahead
from racro.prompts import CAPTION_DIGEST
from racro.rollouts import captioner as captioning
from racro.rollouts.reasoner import question_to, training_sampling, unasked
from racro.schema import FrozenModel, Policy, Problem, ProblemTable, Rollout, RolloutTable
from racro.storage import artifacts
from tasks.running.engines import asks_ahead, captioner_engine, reasoner_engine
from tasks.running.policies import Output, stage
from tasks.running.progress import Progress


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
    ahead: tuple[recipes.Reasoner, FrozenModel] | None = None,
) -> RolloutTable:
    """G captions for each problem of iteration `iteration`.

    `ahead`: the reasoner that the next stage will ask. Where it runs in processes of its own it gets each caption as
    it comes.
    """
    pool = list(artifacts.read_table(problems, Problem))
    chosen = captioning.select(pool, rollout.problems, seed, iteration)
    progress = Progress(f"caption {iteration}", "problems")
    pass_on = _reasoner_ahead(ahead, chosen, seed, iteration, runtime)
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
    ):
        rows.append(row)
        pass_on(row)
    progress.finish()
    output.shards = artifacts.write_table(output.folder, rows, Rollout)
    tokens = [len(row.completion_ids) for row in rows]
    output.metrics = {
        "captions": len(rows),
        "tokens": sum(tokens),
        "tokens_mean": statistics.fmean(tokens),
        "cut_share": statistics.fmean(row.finish_reason != "stop" for row in rows),
    }
    return RolloutTable(uri=output.folder, rows=len(rows), digest=artifacts.table_digest(output.shards))


def _reasoner_ahead(
    ahead: tuple[recipes.Reasoner, FrozenModel] | None,
    problems: list[Problem],
    seed: int,
    iteration: int,
    runtime: recipes.Runtime,
) -> Callable[[Rollout], None]:
    """What is to be done with each finished caption: hand it to the reasoner, or nothing."""
    if ahead is None or not asks_ahead(ahead[0], runtime):
        return lambda row: None
    engine = reasoner_engine(*ahead, runtime)
    assert isinstance(engine, Ahead)
    questions = {problem.uid: problem.question for problem in problems}
    sampling, base = training_sampling(ahead[0], seed, iteration, runtime.request_deadline)

    def pass_on(row: Rollout) -> None:
        if unasked(row) is None:
            prompt, own = question_to(questions[row.uid], row.caption, base)
            engine.ask(prompt, sampling, own)

    return pass_on
