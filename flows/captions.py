"""Captions of problems by a policy, and a table of values for each reward. Rewards can be made side by side.

Composition only. Called by `flows.sampling`, which says which problems, and what the rewards add up to.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from racro.config import Recipe, Reward, RolloutSettings
from racro.rewards import kinds, places
from racro.schema import FrozenModel, Policy, ProblemTable, RewardTable, RolloutTable, StandingTable
from tasks import caption as writing
from tasks.refer import refer
from tasks.reward import STAGES, check, judging, needed
from tasks.running.beside import together
from tasks.running.stages import Stages

SIDE_BY_SIDE = 4
"""Most rewards that are made at the same time."""


class References(NamedTuple):
    """Known captions that may join groups, with their rewards."""

    rollouts: RolloutTable
    rewards: dict[str, RewardTable]
    """As those of `Sampled`."""


class Sampled(NamedTuple):
    """Captions with their rewards. The first of each list are those with which the iteration began."""

    rollouts: tuple[RolloutTable, ...]
    rewards: tuple[dict[str, RewardTable], ...]
    """Tables by the titles of the recipe's rewards, in its order."""
    references: tuple[References | None, ...] = ()
    """Of each of these; empty if the recipe wants none."""


def captioned(
    recipe: Recipe,
    stages: Stages,
    k: int,
    problems: ProblemTable,
    policy: Policy,
    reasoner: FrozenModel,
    judges: Mapping[str, FrozenModel],
    selected: StandingTable | None,
    made: Sampled,
) -> Sampled:
    """With the captions of the selected problems, and a table of values for each reward; gates come first.

    `made` itself if none of these problems can be captioned.
    """
    refill = f", refill {len(made.rollouts)}" if made.rollouts else ""
    label = f" {k}{refill}"
    rollouts = written(
        recipe, stages, problems, policy, recipe.rollout, recipe.seed, k, label, reasoner=reasoner, chosen=selected
    )
    if not rollouts.rows:
        return made

    def value(
        reward: Reward, gate: RewardTable | None, rollouts: RolloutTable, label: str, limit: float
    ) -> RewardTable:
        inputs = {"gate": gate, **judging(recipe, reward, judges)}
        return valued(
            recipe, stages, reward, problems, policy, reasoner, rollouts, recipe.seed, k, label, limit, inputs
        )

    def checked(reward: Reward, gate: RewardTable | None) -> RewardTable:
        table = value(reward, gate, rollouts, label, 1.0 if refill else reward.max_unscored)
        found = [*(earlier[reward.title] for earlier in made.rewards), table]
        check([stages.record(one) for one in found], reward, k)
        return table

    rewards, references = _rewarded(recipe, checked), made.references
    answering = kinds.answering(recipe.rewards)
    if recipe.rollout.references and answering is not None:
        given = {"rollouts": rollouts, "answers": rewards[answering.title], "problems": problems, "policy": policy}
        known = stages.run(refer, f"refer{label}", RolloutTable, **given)
        of_known = functools.partial(value, rollouts=known, label=f"{label}, references", limit=1.0)
        references = (*references, References(known, _rewarded(recipe, of_known)) if known.rows else None)
    return Sampled((*made.rollouts, rollouts), (*made.rewards, rewards), references)


def _rewarded(recipe: Recipe, value: Callable[[Reward, RewardTable | None], RewardTable]) -> dict[str, RewardTable]:
    """A table for each reward of the recipe, in its order; gates are made first. `value`: makes one, with its gate."""
    tables: dict[str, RewardTable] = {}
    for rewards in _groups(recipe):
        calls = [functools.partial(value, reward, tables.get(reward.gate or "")) for reward in rewards]
        found = together(calls, SIDE_BY_SIDE) if len(calls) > 1 else [call() for call in calls]
        tables |= {reward.title: table for reward, table in zip(rewards, found, strict=True)}
    return {reward.title: tables[reward.title] for reward in recipe.rewards}


def _groups(recipe: Recipe) -> Iterator[list[Reward]]:
    """All rewards, gates before what they gate. Those of a group can be made side by side; others are alone."""
    left, done = list(recipe.rewards), set[str | None]([None])
    while left:
        ready = [reward for reward in left if reward.gate in done]
        apart = [reward for reward in ready if places.outside(recipe, reward)]
        yield from ([reward] for reward in ready if reward not in apart)
        if apart:
            yield apart
        done |= {reward.title for reward in ready}
        left = [reward for reward in left if reward not in ready]


def written(
    recipe: Recipe,
    stages: Stages,
    problems: ProblemTable,
    policy: Policy,
    rollout: RolloutSettings,
    seed: int,
    k: int,
    label: str,
    reasoner: FrozenModel,
    chosen: StandingTable | None = None,
) -> RolloutTable:
    """What the policy writes. `label` ends the name of the task run."""
    task = writing.STAGES[recipe.objective]
    ahead = recipe.objective == "caption" and kinds.answering(recipe.rewards) is not None
    return stages.run(
        task,
        f"{task.name}{label}",
        RolloutTable,
        problems=problems,
        policy=policy,
        captioner=recipe.captioner,
        rollout=rollout.alone(),
        seed=seed,
        iteration=k,
        max_unscored=recipe.max_unscored,
        ahead=(recipe.reasoner, reasoner) if ahead else None,
        chosen=chosen,
    )


def valued(
    recipe: Recipe,
    stages: Stages,
    reward: Reward,
    problems: ProblemTable,
    policy: Policy,
    reasoner: FrozenModel,
    rollouts: RolloutTable,
    seed: int,
    k: int,
    label: str,
    max_unscored: float,
    inputs: Mapping[str, Any],
) -> RewardTable:
    """The values of one reward. `inputs`: its gate and its judges."""
    asked = recipe.objective == "caption"
    models = {
        "policy": policy,
        "captioner": recipe.captioner,
        "reasoner_model": reasoner if asked else None,
        "reasoner": recipe.reasoner if asked else None,
    }
    return stages.run(
        STAGES[reward.type],
        f"reward {reward.title}{label}",
        RewardTable,
        rollouts=rollouts,
        problems=problems,
        settings=reward.alone(),
        **needed(reward, **models, **inputs),
        seed=seed,
        iteration=k,
        title=reward.title,
        max_unscored=max_unscored,
    )
