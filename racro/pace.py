"""How far is a training, and how long will the rest take? Estimated from the iterations and evaluations so far.

Those that came from the cache take no time, so they say nothing about what is still to be computed and are left out.
"""

from __future__ import annotations

import statistics
from typing import Literal, NamedTuple

from racro.config import Recipe
from racro.curves import IterationPoint
from racro.schedule import evaluated
from racro.summary import Score

Part = Literal["iteration", "evaluation"]

RECENT = 5
"""Number of the newest iterations, and evaluations, whose mean time is expected of the rest."""


class Pace:
    """The time that a training takes. Told of every part as it ends, in any order."""

    def __init__(self, recipe: Recipe) -> None:
        self._left: dict[Part, int] = {
            "iteration": recipe.rounds,
            "evaluation": sum(evaluated(recipe, number) for number in range(recipe.rounds + 1)),
        }
        self._seconds: dict[Part, list[float]] = {"iteration": [], "evaluation": []}

    def ended(self, part: Part, seconds: float, cached: bool) -> None:
        """One more is done. cached: all of its stages came from the cache."""
        self._left[part] -= 1
        if not cached:
            self._seconds[part].append(seconds)

    @property
    def left(self) -> float | None:
        """Seconds until the end; None as long as a kind of part that is still to come was never executed."""
        total = 0.0
        for part, count in self._left.items():
            if count and not self._seconds[part]:
                return None
            total += count * statistics.fmean(self._seconds[part][-RECENT:] or [0.0])
        return total


class Row(NamedTuple):
    """What is known after an iteration, and after the evaluation that follows it where there is one."""

    number: int
    """Iterations so far; 0: the captioner before training."""
    total: int
    """Iterations of the whole training."""
    point: IterationPoint | None
    """Of the last iteration; None before the first."""
    score: Score | None
    """On the held-out problems; None if they were not asked after this iteration."""
    seconds: float
    """Wall time in this command."""
    cached: bool
    """Did everything come from the cache?"""
    left: float | None
    """Seconds until the end of the training; None if unknown."""

    @property
    def percent(self) -> float:
        """Of the iterations."""
        return 100.0 * self.number / self.total

    @property
    def to_go(self) -> str:
        """The time that is left, in words; empty if unknown or over."""
        return f"about {duration(self.left)} to go" if self.left else ""

    @property
    def line(self) -> str:
        """All of it in one line."""
        parts = []
        if self.point is not None:
            parts.append(f"reward {self.point.reward}")
            parts.append(f"{self.point.informative:.0%} of the groups informative")
        if self.score is not None:
            parts.append(f"accuracy {self.score.share.percent} % (n = {self.score.n:,})")
        parts.append("from the cache" if self.cached else duration(self.seconds))
        if self.to_go:
            parts.append(self.to_go)
        return f"iteration {self.number} of {self.total}: {', '.join(parts)}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
