"""Stages reward-answer, reward-describes, ...: the values of one kind of reward for the captions of one iteration.

Thin: one stage for each of `racro.rewards.kinds`, all made here. Weights and gates count later, in the stage compose.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from prefect import Task

from racro import config as recipes
from racro.rewards.answer import counts
from racro.rewards.kinds import KINDS, kind_of
from racro.rewards.measures import measured
from racro.rewards.protocol import Case, JudgeModel, Kind, Means, Need, Value, counted, rows
from racro.schema import FrozenModel, Policy, Problem, ProblemTable, RewardRow, RewardTable, Rollout, RolloutTable
from racro.storage import artifacts
from tasks.running.engines import captioner_engine, judge_engine, reasoner_engine
from tasks.running.policies import Output, stage
from tasks.running.progress import Progress
from tasks.running.refusals import Refusals

INPUTS: dict[Need, tuple[str, ...]] = {
    "reasoner": ("reasoner_model", "reasoner"),
    "policy": ("policy", "captioner"),
    "gate": ("gate",),
    "judges": ("judges", "judge_names"),
}
"""Inputs of a stage by what its kind needs; those that it does not need are None, and so no part of its identity."""

Judges = dict[str, tuple[recipes.Judge, FrozenModel]]


class TooManyUnscored(RuntimeError):
    """So many captions without a value that training on the rest would be training on chance."""


def needed(reward: recipes.Reward, **inputs: Any) -> dict[str, Any]:
    """The inputs as the stage of this reward takes them: None for what its kind does not need."""
    wanted = {name for need in KINDS[reward.type].needs for name in INPUTS[need]}
    return {name: value if name in wanted else None for name, value in inputs.items()}


def judging(recipe: recipes.Recipe, reward: recipes.Reward, models: Mapping[str, FrozenModel]) -> dict[str, Any]:
    """The judges of a reward as inputs of its stage; their names are no part of its identity."""
    names = recipes.judges_of(reward, recipe.judges)
    return {
        "judges": {key: (recipe.judges[name], models[name]) for key, name in names.items()},
        "judge_names": names,
    }


def judge_models(
    judges: Judges | None, names: Mapping[str, str] | None, runtime: recipes.Runtime
) -> dict[str, JudgeModel]:
    """Open judges, by the key of the settings that names them."""
    return {
        key: JudgeModel(judge_engine((names or {})[key], *judge, runtime), judge[0])
        for key, judge in (judges or {}).items()
    }


def _stage_of(name: str, kind: type[Kind[Any]]) -> Task[..., Any]:
    @stage(f"reward-{name}", version=kind.version, prompts=kind.prompts)
    def reward(
        output: Output,
        rollouts: RolloutTable,
        problems: ProblemTable,
        settings: recipes.Reward,
        policy: Policy | None,
        captioner: recipes.Captioner | None,
        reasoner_model: FrozenModel | None,
        reasoner: recipes.Reasoner | None,
        gate: RewardTable | None,
        seed: int,
        iteration: int,
        runtime: recipes.Runtime,
        root: str,
        title: str,
        max_unscored: float,
        judges: Judges | None = None,
        judge_names: dict[str, str] | None = None,
    ) -> RewardTable:
        """The value of each caption. `title`: the reward's name in the recipe. Raises TooManyUnscored.

        `judges`, `judge_names`: models and names of judges, by the key of the settings that names them.
        """
        progress, refused = Progress(f"reward {title} {iteration}", "requests"), Refusals("scored")
        captions = list(artifacts.read_table(rollouts, Rollout))
        chosen = _chosen(captions, rollouts)
        _require_captions(chosen, len({row.uid for row in captions}), title, max_unscored, iteration)
        known = {problem.uid: problem for problem in artifacts.read_table(problems, Problem)}
        gates = [row.value for row in artifacts.read_table(gate, RewardRow)] if gate else [1.0] * len(captions)
        cases = [Case(known[row.uid], row, value) for row, value in zip(captions, gates, strict=True)]
        scoring = kind(settings)
        means = Means(
            seed=seed,
            iteration=iteration,
            deadline=runtime.request_deadline,
            reasoner=reasoner_engine(reasoner, reasoner_model, runtime) if reasoner and reasoner_model else None,
            reasoner_settings=reasoner,
            policy=captioner_engine(captioner, policy, runtime) if captioner and policy else None,
            judges=judge_models(judges, judge_names, runtime),
            images=problems.uri,
            progress=progress,
            refused=refused,
        )
        values = list(scoring.score(cases, means))
        progress.finish()
        output.metrics = _metrics(cases, values) | {"problems": chosen} | refused.metrics
        if output.metrics["unscored"] > max_unscored * len(cases):
            raise TooManyUnscored(_too_many(scoring, cases, values, refused, title, max_unscored, iteration))
        output.shards = artifacts.write_table(output.folder, rows(cases, values), RewardRow)
        return RewardTable(uri=output.folder, rows=len(cases), digest=artifacts.table_digest(output.shards))

    return reward


STAGES: dict[str, Task[..., Any]] = {name: _stage_of(name, kind) for name, kind in KINDS.items()}
"""The stage of each kind."""


def check(records: Sequence[artifacts.Record], reward: recipes.Reward, iteration: int) -> None:
    """Are the values of an iteration within this recipe's limit? Raises TooManyUnscored.

    The first record may come from a run that allowed more unscored; the others, those of a refill, are judged with it.
    """
    metrics = {
        name: sum(int(one.metrics[name]) for one in records) for name in ("problems", "groups", "captions", "unscored")
    }
    title, limit = reward.title, reward.max_unscored
    _require_captions(metrics["problems"], metrics["groups"], title, limit, iteration)
    if metrics["unscored"] > limit * metrics["captions"]:
        where = "after refilling" if len(records) > 1 else "from an earlier run"
        raise TooManyUnscored(
            f"iteration {iteration}: {metrics['unscored']} of {metrics['captions']} captions have no reward {title} "
            f"{where}; above max_unscored = {limit} of this reward the run stops. Raise it, or "
            f"{kind_of(reward).remedy}"
        )


def _chosen(captions: list[Rollout], rollouts: RolloutTable) -> int:
    """Number of problems that were to be captioned."""
    record = artifacts.read_record(rollouts.uri)
    captioned = len({row.uid for row in captions})
    return captioned if record is None else int(record.metrics.get("problems", captioned))


def _require_captions(chosen: int, captioned: int, title: str, max_unscored: float, iteration: int) -> None:
    """Were enough problems captioned? The captions may be those of a run that allowed fewer. Raises TooManyUnscored."""
    if chosen - captioned > max_unscored * chosen:
        raise TooManyUnscored(
            f"iteration {iteration}: {chosen - captioned} of {chosen} problems have no captions from an earlier run; "
            f"above max_unscored = {max_unscored} of the reward {title} the run stops. Raise it, or change the "
            "captioner"
        )


def _unscored(cases: Sequence[Case], values: Sequence[Value]) -> list[Value]:
    """Values that are missing where they would count."""
    return [found for case, found in zip(cases, values, strict=True) if case.gate and found.value is None]


def _metrics(cases: Sequence[Case], values: Sequence[Value]) -> dict[str, float]:
    rollouts = [case.rollout for case in cases]
    metrics = measured(rollouts, [found.value for found in values]) | {
        "captions": len(cases),
        "captions_counted": len(counted(cases)),
        "unscored": len(_unscored(cases, values)),
        "unscored_share": len(_unscored(cases, values)) / len(cases) if cases else 0.0,
    }
    if verdicts := [found.verdict for found in values if found.verdict is not None]:
        metrics |= {f"verdict_{name}": count for name, count in counts(verdicts).items()}
    known = [found.value for found in values if found.value is not None]
    metrics["deviation"] = statistics.pstdev(known) if known else 0.0
    return metrics | {f"fault_{name}": n for name, n in Counter(v.fault for v in values if v.fault).items()}


def _too_many(
    scoring: Kind[Any],
    cases: Sequence[Case],
    values: Sequence[Value],
    refused: Refusals,
    title: str,
    max_unscored: float,
    iteration: int,
) -> str:
    missing = Counter(found.detail or "no value" for found in _unscored(cases, values))
    found = ", ".join(f"{count} {detail}" for detail, count in missing.most_common(3))
    return (
        f"iteration {iteration}: too many of {len(cases)} captions have no reward {title} ({found}); above "
        f"max_unscored = {max_unscored} of this reward the run stops. Remedy: {scoring.remedy}"
        + (f". Problem {refused}" if refused.requests else "")
    )
