"""A share of cases with its standard error, its interval and the number of cases behind it.

Wherever a share is shown, its figures come from here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import NormalDist

from racro.schema.row import Row

Z = NormalDist().inv_cdf(0.975)
"""Standard errors on either side of a 95 % interval."""


class Share(Row):
    """A share, for example of right answers."""

    value: float
    """0 to 1."""
    stderr: float
    """Standard error; never 0 where it comes from `standard_error`."""
    n: int
    """Cases behind the share."""

    @classmethod
    def of(cls, cases: Iterable[bool]) -> Share | None:
        """The share of true ones among independent cases; None without any case."""
        listed = list(cases)
        return cls.counted(sum(listed), len(listed))

    @classmethod
    def counted(cls, true: int, n: int) -> Share | None:
        """The share of `true` among n independent cases; None without any case."""
        return Share(value=true / n, stderr=standard_error(true / n, n), n=n) if n else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval (`wilson`).

        Cases that are not independent count as the number of independent ones that would give the same standard error.
        """
        if self.stderr == 0:
            return self.value, self.value
        if 0 < self.value < 1:
            return wilson(self.value, self.value * (1 - self.value) / self.stderr**2)
        return wilson(self.value, max(0.0, Z / (2 * self.stderr) - Z**2))

    @property
    def pm(self) -> str:
        """The standard error in percent, to follow the share: " ± 1.1". Empty for a single case."""
        return f" ± {100 * self.stderr:.1f}" if self.n > 1 else ""

    @property
    def percent(self) -> str:
        """The share in percent: "47.9 ± 1.1"."""
        return f"{100 * self.value:.1f}{self.pm}"

    @property
    def range(self) -> str:
        """The 95 % interval in percent: "45.7–50.1"."""
        low, high = self.interval
        return f"{100 * low:.1f}–{100 * high:.1f}"


def standard_error(value: float, cases: float) -> float:
    """Standard error of a share of independent cases: sqrt(p (1 - p) / cases).

    At 0 and 1, where that would be 0: half the width of Wilson's interval in units of `Z`, which is Z / (2 (cases +
    Z^2)).
    """
    if 0 < value < 1:
        return math.sqrt(value * (1 - value) / cases)
    return Z / (2 * (cases + Z**2))


def wilson(value: float, cases: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of independent cases (JASA 22, 1927, p. 209)."""
    if cases == 0:
        return 0.0, 1.0
    centre = (value + Z**2 / (2 * cases)) / (1 + Z**2 / cases)
    half = Z / (1 + Z**2 / cases) * math.sqrt(value * (1 - value) / cases + Z**2 / (4 * cases**2))
    return min(value, max(0.0, centre - half)), max(value, min(1.0, centre + half))  # at 0 and 1 despite rounding
