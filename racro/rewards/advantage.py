"""Rewards of an iteration's groups -> advantages, by the estimator that a recipe chooses.

Called by `racro.rewards.composition`. Not the loss (`racro.training.replay`), which sees rewards only through these
advantages. The moving moments of `ema` are `racro.rewards.moments`.

All estimators centre rewards by the mean of their group. None, an unscored caption, stays None and enters no mean and
no deviation. Deviations are those of a sample (divisor n - 1), as in TRL and verl.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from racro import config

EPSILON = 1e-6
GDPO_EPSILON = 1e-4
"""As in TRL's implementation, for the deviation of each reward and for that of the batch."""
HARD, MEDIUM = (0.25, 1.5), (0.75, 1.2)
"""(largest pass rate of a group, factor of its advantages). The factors are the field's; the bounds are ours."""

Values = Sequence[float | None]
Advantages = list[float | None]


class Group(NamedTuple):
    """The G captions of one problem."""

    rewards: Values
    """Of each caption; None: unscored."""
    terms: Sequence[Values] = ()
    """G rows: the value, after its gate, of each reward that adds to the sum. Only `gdpo` looks at them."""
    weights: Sequence[float] = ()
    """Of these rewards."""
    source: str = ""
    """Category of the problem. Only `ema` looks at it."""
    pass_rate: float | None = None
    """Mean of the reward that `by_pass_rate` names; None: not known."""
    replaced: bool = False
    """Was this group without signal replaced by a new problem? Then it enters no deviation of the batch."""


Estimate = Callable[[Sequence[Group]], list[Advantages]]


def estimator(settings: config.Advantage, moving: Estimate | None = None) -> Estimate:
    """What makes advantages of groups. `moving`: the estimator behind `ema`, with its moments."""
    estimates: dict[str, Estimate] = {
        "group": lambda groups: advantages([group.rewards for group in groups]),
        "none": lambda groups: [centred(group.rewards) for group in groups],
        "batch": batch,
        "gdpo": gdpo,
    }
    plain = moving if settings.type == "ema" and moving is not None else estimates[settings.type]
    if settings.by_pass_rate is None:
        return plain
    return lambda groups: [_scaled(a, factor(g.pass_rate)) for g, a in zip(groups, plain(groups), strict=True)]


def advantages(rewards: Sequence[Values]) -> list[Advantages]:
    """A = (R - mean) / (std + 1e-6) within each group, over its scored captions (arXiv 2506.04559).

    `rewards`: P groups of G. std is the sample standard deviation (divisor n - 1), as in TRL and in verl, on which
    RACRO's code is based. None stays None. A group with one scored caption has no std: its advantage is 0.
    """
    return [_group(group, EPSILON) for group in rewards]


def centred(group: Values) -> Advantages:
    """A = R - mean within the group (Dr. GRPO, arXiv 2503.20783); exactly 0 where all rewards are equal."""
    if not informative(group):
        return [None if value is None else 0.0 for value in group]
    mean = _mean([value for value in group if value is not None])
    return [None if value is None else value - mean for value in group]


def batch(groups: Sequence[Group]) -> list[Advantages]:
    """A = (R - mean of the group) / (std of these differences over all scored captions + 1e-6).

    REINFORCE++ with baseline (arXiv 2501.03262), over captions, where verl counts each of its tokens. The mean over the
    batch, which the paper subtracts too, is 0 already.
    """
    return _whitened([centred(group.rewards) for group in groups], groups, EPSILON)


def gdpo(groups: Sequence[Group]) -> list[Advantages]:
    """A_k = (r_k - mean) / (std + 1e-4) of each reward within the group, A = sum of w_k A_k, divided by its std over
    all scored captions + 1e-4 (GDPO, arXiv 2601.05242).

    A reward counts in a group only where it counts in the sum; rewards of weight 0 are gates only. The mean over the
    batch is 0 already.
    """
    return _whitened([_decoupled(group) for group in groups], groups, GDPO_EPSILON)


def factor(pass_rate: float | None) -> float:
    """By what the advantages of a problem are multiplied because of its difficulty."""
    if pass_rate is None:
        return 1.0
    return next((by for most, by in (HARD, MEDIUM) if pass_rate <= most), 1.0)


def informative(group: Values) -> bool:
    """Does the group carry a gradient, that is, at least two scored captions with different rewards?"""
    return len({value for value in group if value is not None}) > 1


def _group(group: Values, epsilon: float) -> Advantages:
    scored = [value for value in group if value is not None]
    if not informative(group):
        return [None if value is None else 0.0 for value in group]
    mean = _mean(scored)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in scored) / (len(scored) - 1))
    return [None if value is None else (value - mean) / (std + epsilon) for value in group]


def _decoupled(group: Group) -> Advantages:
    """The weighted sum of the advantages by each reward; None for captions without a reward."""
    scored = [row if reward is not None else None for row, reward in zip(group.terms, group.rewards, strict=True)]
    columns = [
        [weight * (a or 0.0) for a in _group([None if row is None else row[k] for row in scored], GDPO_EPSILON)]
        for k, weight in enumerate(group.weights)
    ]
    return [None if row is None else math.fsum(column[i] for column in columns) for i, row in enumerate(scored)]


def _whitened(of_groups: Sequence[Advantages], groups: Sequence[Group], epsilon: float) -> list[Advantages]:
    """Divided by their deviation over the batch; their mean is 0."""
    known = [
        a for own, group in zip(of_groups, groups, strict=True) if not group.replaced for a in own if a is not None
    ]
    if len(known) < 2:
        return [[None if a is None else 0.0 for a in own] for own in of_groups]
    mean = _mean(known)
    std = math.sqrt(math.fsum((a - mean) ** 2 for a in known) / (len(known) - 1))
    return [_scaled(own, 1 / (std + epsilon)) for own in of_groups]


def _scaled(own: Advantages, by: float) -> Advantages:
    return [None if a is None else a * by for a in own]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
