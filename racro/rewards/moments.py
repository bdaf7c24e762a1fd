"""Moving moments of the rewards of each category, by which the estimator `ema` divides.

Their state after an iteration is an artifact beside its scored rollouts (`tasks.compose`), so that a training that
resumes goes on with the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pydantic import RootModel

from racro import config
from racro.rewards.advantage import EPSILON, Advantages, Group, Values, centred
from racro.schema import Frozen


class Moments(Frozen):
    """Of the rewards of one category."""

    mean: float
    square: float
    """Mean of the squares."""

    @property
    def deviation(self) -> float:
        """Standard deviation."""
        return math.sqrt(max(self.square - self.mean**2, 0.0))


class State(RootModel[dict[str, Moments]]):
    """Moments by category."""


class Ema:
    """The estimator with its state: called with the groups of an iteration, it first takes their rewards in.

    OneThinker, arXiv 2512.03043, as its code has it: the deviation has seen the rewards that it divides.
    """

    def __init__(self, settings: config.EmaAdvantage, before: Mapping[str, Moments]) -> None:
        self.settings = settings
        self.moments = dict(before)

    def __call__(self, groups: Sequence[Group]) -> list[Advantages]:
        """A = (R - mean of the group) / (moving deviation + 1e-6)."""
        by_source: dict[str, list[float]] = {}
        for group in groups:
            if not group.replaced:
                by_source.setdefault(group.source, []).extend(r for r in group.rewards if r is not None)
        for source, rewards in by_source.items():
            if rewards:
                self.moments[source] = self._moved(self.moments.get(source), rewards)
        return [self._divided(group) for group in groups]

    def _moved(self, before: Moments | None, rewards: Sequence[float]) -> Moments:
        mean = math.fsum(rewards) / len(rewards)
        square = math.fsum(reward**2 for reward in rewards) / len(rewards)
        if before is None:
            return Moments(mean=mean, square=square)
        kept = self.settings.decay
        return Moments(mean=kept * before.mean + (1 - kept) * mean, square=kept * before.square + (1 - kept) * square)

    def _divided(self, group: Group) -> Advantages:
        known = self.moments.get(group.source)
        own = centred(group.rewards)
        deviation = max(known.deviation, self.settings.least) if known else self.settings.least
        found = [None if a is None else a / (deviation + EPSILON) for a in own]
        if all(a is None or abs(a) <= self.settings.largest for a in found):
            return found
        deviation = _population(group.rewards)
        return [None if a is None else a / (deviation + EPSILON) for a in own]


def _population(rewards: Values) -> float:
    """Standard deviation of the group, with divisor n, as in OneThinker's code."""
    scored = [reward for reward in rewards if reward is not None]
    mean = math.fsum(scored) / len(scored)
    return math.sqrt(math.fsum((reward - mean) ** 2 for reward in scored) / len(scored))
