"""Stage caption: the problems of one iteration, captioned by the policy. Thin: `racro.captioner` does it."""

from __future__ import annotations

import statistics

from racro import artifacts
from racro import captioner as captioning
from racro import config as recipes
from racro.prompts import CAPTION_DIGEST
from racro.schema import Policy, Problem, ProblemTable, Rollout, RolloutTable
from tasks.engines import captioner_engine
from tasks.policies import Output, stage
from tasks.progress import Progress


@stage("caption", version=1, prompts=CAPTION_DIGEST)
def caption(
    output: Output,
    problems: ProblemTable,
    policy: Policy,
    captioner: recipes.Captioner,
    rollout: recipes.Rollout,
    seed: int,
    iteration: int,
    runtime: recipes.Runtime,
    root: str,
) -> RolloutTable:
    """G captions for each problem of iteration `iteration`."""
    pool = list(artifacts.read_table(problems, Problem))
    chosen = captioning.select(pool, rollout.problems, seed, iteration)
    progress = Progress(f"caption {iteration}", "problems")
    rows = list(
        captioning.caption(
            chosen,
            problems.uri,
            policy.digest,
            captioner_engine(captioner, policy, runtime),
            rollout,
            seed,
            iteration,
            runtime.request_deadline,
            progress,
        )
    )
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
