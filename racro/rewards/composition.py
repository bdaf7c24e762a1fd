"""Values of all rewards -> one reward and one advantage for each caption.

Pure and nearly free: another weight needs nothing but this. Called by the stage compose. The formula of the advantage
is `racro.rewards.advantage`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from racro import config
from racro.rewards.advantage import Advantages, Estimate, Group, Values, estimator
from racro.schema import Frozen, RewardRow, Rollout, ScoredRollout


class Term(Frozen):
    """How a reward counts in the sum."""

    name: str
    weight: float
    gate: str | None


def terms(rewards: Iterable[config.Reward]) -> tuple[Term, ...]:
    """The terms of a recipe's sum, in its order."""
    return tuple(Term(name=reward.title, weight=reward.weight, gate=reward.gate) for reward in rewards)


def gated(terms: Sequence[Term], group: Sequence[Values]) -> list[Values]:
    """What each reward that adds to the sum is worth for each caption of a group: its value times that of its gate.

    `group`: G rows with a value for each term. Where a gate is 0, what it gates is 0, whatever its value. None: not
    known. Left out are rewards of weight 0, which are gates only, and those that have no value for any caption of the
    group, because they would be a constant there.
    """
    adding = _adding(terms, group)
    found: list[Values] = []
    for row in group:
        known: dict[str, float | None] = {}
        for term, value in zip(terms, row, strict=True):
            gate = 1.0 if term.gate is None else known[term.gate]
            known[term.name] = 0.0 if gate == 0 else None if gate is None or value is None else value * gate
        found.append([known[terms[i].name] for i in adding])
    return found


def summed(terms: Sequence[Term], group: Sequence[Values]) -> Advantages:
    """The reward of each caption of a group: the sum of weight x what each reward is worth (see `gated`).

    None, unscored: a reward that adds to the sum is not known for this caption, or no reward adds.
    """
    weights = _weights(terms, group)
    return [_sum([(weight, value) for weight, value in zip(weights, row, strict=True)]) for row in gated(terms, group)]


def _adding(terms: Sequence[Term], group: Sequence[Values]) -> list[int]:
    return [i for i, term in enumerate(terms) if term.weight and any(row[i] is not None for row in group)]


def _weights(terms: Sequence[Term], group: Sequence[Values]) -> list[float]:
    return [terms[i].weight for i in _adding(terms, group)]


def _sum(parts: Sequence[tuple[float, float | None]]) -> float | None:
    known = [weight * value for weight, value in parts if value is not None]
    return math.fsum(known) if known and len(known) == len(parts) else None


def compose(
    rollouts: Sequence[Rollout],
    tables: Sequence[Sequence[RewardRow]],
    terms: Sequence[Term],
    advantage: config.Advantage | None = None,
    moving: Estimate | None = None,
    categories: Mapping[str, str] | None = None,
    replaced: Collection[str] = (),
) -> list[ScoredRollout]:
    """The rollouts with values, reward and advantage; a table for each term, in the order of the rollouts.

    Rollouts of a problem are neighbours. Response and verdict are those of the first reward that has some. `advantage`:
    how advantages are estimated, GRPO's if None; `moving`: the estimator with its moments, for `ema`; `categories`: of
    the problems, for the same. `replaced`: problems that gave no signal and were replaced by others.
    """
    settings = advantage or config.GroupAdvantage()
    groups = [list(rows) for _, rows in itertools.groupby(zip(rollouts, *tables, strict=True), key=lambda r: r[0].uid)]
    values = [[tuple(found.value for found in row[1:]) for row in group] for group in groups]
    seen = [
        Group(
            rewards=summed(terms, own),
            terms=gated(terms, own),
            weights=_weights(terms, own),
            source=(categories or {}).get(group[0][0].uid, ""),
            pass_rate=_pass_rate(terms, group, settings.by_pass_rate),
            replaced=group[0][0].uid in replaced,
        )
        for group, own in zip(groups, values, strict=True)
    ]
    estimated = estimator(settings, moving)(seen)
    return [
        _scored(rollout, found, one, reward, worth)
        for group, own, counted, advantages in zip(groups, values, seen, estimated, strict=True)
        for (rollout, *found), one, reward, worth in zip(group, own, counted.rewards, advantages, strict=True)
    ]


def _scored(
    rollout: Rollout,
    found: Sequence[RewardRow],
    values: tuple[float | None, ...],
    reward: float | None,
    worth: float | None,
) -> ScoredRollout:
    answered = next((row for row in found if row.verdict is not None), None)
    return ScoredRollout(
        **dict(rollout),
        values=values,
        reward=reward,
        advantage=worth,
        response=answered.response if answered else None,
        verdict=answered.verdict if answered else None,
    )


def _pass_rate(terms: Sequence[Term], group: Sequence[Any], name: str | None) -> float | None:
    """Mean of a reward over what the policy wrote. `group`: captions with the rows of each term."""
    column = next((i for i, term in enumerate(terms, 1) if term.name == name), None)
    values = [] if column is None else [row[column].value for row in group if not row[0].reference]
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
