"""Stage reason: the frozen reasoner answers from each caption; the answers get verdicts and rewards.

Thin: `racro.rollouts.reasoner` does it.
"""

from __future__ import annotations

import math
import statistics

from racro import config as recipes
from racro.prompts import DESCRIBES_DIGEST, REASONER_DIGEST
from racro.rewards.answer import counts, too_many_unscored
from racro.rollouts import reasoner as reasoning
from racro.schema import FrozenModel, Policy, Problem, ProblemTable, Rollout, RolloutTable, ScoredRollout, ScoredTable
from racro.storage import artifacts
from racro.training.advantage import informative
from tasks.running.engines import captioner_engine, reasoner_engine
from tasks.running.policies import Output, stage
from tasks.running.progress import Progress
from tasks.running.refusals import Refusals


class TooManyUnscored(RuntimeError):
    """So many captions without a reward that training on the rest would be training on chance."""


@stage("reason", version=3, prompts=REASONER_DIGEST + DESCRIBES_DIGEST)
def reason(
    output: Output,
    rollouts: RolloutTable,
    problems: ProblemTable,
    policy: Policy,
    captioner: recipes.Captioner,
    reasoner_model: FrozenModel,
    reasoner: recipes.Reasoner,
    reward: recipes.RewardSettings,
    seed: int,
    iteration: int,
    runtime: recipes.Runtime,
    root: str,
) -> ScoredTable:
    """Verdict and reward of each rollout. Raises TooManyUnscored."""
    progress, refused = Progress(f"reason {iteration}", "questions"), Refusals("answered")
    captions = list(artifacts.read_table(rollouts, Rollout))
    _require_captions(captions, rollouts, reward, iteration)
    rows = list(
        reasoning.reason(
            captions,
            {problem.uid: problem for problem in artifacts.read_table(problems, Problem)},
            reasoner_engine(reasoner, reasoner_model, runtime),
            reasoner,
            reward,
            captioner_engine(captioner, policy, runtime) if reward.penalty else None,
            seed,
            iteration,
            runtime.request_deadline,
            progress,
            refused,
        )
    )
    progress.finish()
    verdicts = counts(row.verdict for row in rows)
    if too_many_unscored([row.reward for row in rows], reward):
        found = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items() if count)
        raise TooManyUnscored(
            f"iteration {iteration}: too many of {len(rows)} captions have no reward ({found}); above "
            f"reward.max_unscored = {reward.max_unscored} the run stops. Raise reasoner.max_tokens (truncated) or "
            "runtime.request_deadline (failed), or look at the reasoner"
            + (f". Problem {refused}" if refused.requests else "")
        )
    output.shards = artifacts.write_table(output.folder, rows, ScoredRollout)
    output.metrics = _metrics(rows) | {f"verdict_{name}": count for name, count in verdicts.items()}
    output.metrics |= refused.metrics
    return ScoredTable(uri=output.folder, rows=len(rows), digest=artifacts.table_digest(output.shards))


def _require_captions(
    captions: list[Rollout], rollouts: RolloutTable, reward: recipes.RewardSettings, iteration: int
) -> None:
    """Were enough problems captioned? The captions may be those of a run that allowed fewer. Raises TooManyUnscored."""
    record = artifacts.read_record(rollouts.uri)
    captioned = len({row.uid for row in captions})
    chosen = captioned if record is None else int(record.metrics.get("problems", captioned))
    if chosen - captioned > reward.max_unscored * chosen:
        raise TooManyUnscored(
            f"iteration {iteration}: {chosen - captioned} of {chosen} problems have no captions from an earlier run; "
            f"above reward.max_unscored = {reward.max_unscored} the run stops. Raise it, or change the captioner"
        )


def _metrics(rows: list[ScoredRollout]) -> dict[str, float]:
    groups: dict[str, list[float | None]] = {}
    for row in rows:
        groups.setdefault(row.uid, []).append(row.reward)
    means = [statistics.fmean(scored) for group in groups.values() if (scored := [r for r in group if r is not None])]
    metrics = {
        "reward_mean": statistics.fmean(means) if means else 0.0,
        # captions of one problem share its difficulty: problems, not captions, are the independent cases
        "reward_stderr": statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else 0.0,
        "captions_distinct": len({(row.uid, row.caption) for row in rows}),
        "unscored": sum(row.reward is None for row in rows),
        "groups": len(groups),
        "groups_informative": sum(informative(group) for group in groups.values()),
    }
    if described := [row.describes for row in rows if row.describes is not None]:
        metrics["describes_share"] = statistics.fmean(described)
    return metrics
