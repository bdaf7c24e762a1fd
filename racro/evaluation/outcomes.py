"""What happened to each question between two evaluations, and the gain in accuracy with its standard error.

Not the grading (`racro.grading`). Called by `racro.evaluation.compare`, the reports and `tasks.recording.report`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, get_args

from racro.schema import Frozen, Share, Verdict

Outcome = Literal["fixed", "broken", "wrong", "right"]
"""Answer before -> after: wrong -> right, right -> wrong, wrong -> wrong, right -> right."""


class Gain(Frozen):
    """Accuracy after minus accuracy before, as shares, with its standard error."""

    value: float
    stderr: float
    n: int
    """Cases of the smaller evaluation."""
    paired: bool
    """True: from the problems whose answer changed; False: as if the two evaluations were independent."""

    @property
    def percent(self) -> str:
        """In percentage points: "+9.2 ± 1.3"."""
        return f"{100 * self.value:+.1f}{self.pm}"

    @property
    def pm(self) -> str:
        """The standard error in percentage points: " ± 1.3". Empty for a single case."""
        return f" ± {100 * self.stderr:.1f}" if self.n > 1 else ""


def outcome(before: Verdict, after: Verdict) -> Outcome:
    """What happened to one question; everything that is not correct counts as wrong."""
    if before == Verdict.CORRECT:
        return "right" if after == Verdict.CORRECT else "broken"
    return "fixed" if after == Verdict.CORRECT else "wrong"


def count_outcomes(before: Mapping[str, Verdict], after: Mapping[str, Verdict]) -> dict[Outcome, int]:
    """Outcomes over the questions of both evaluations; verdicts by uid."""
    counts: dict[Outcome, int] = dict.fromkeys(get_args(Outcome), 0)
    for uid in before.keys() & after.keys():
        counts[outcome(before[uid], after[uid])] += 1
    return counts


def gain(before: Share, after: Share, outcomes: Mapping[Outcome, int]) -> Gain:
    """Paired where `outcomes` covers exactly the problems of both evaluations.

    Per problem the change is -1, 0 or 1; its sample variance over n problems gives the standard error. Two evaluations
    of the same problems are not independent: treating them so overstates the error. Where all changes are equal the
    variance is 0, which claims too much; there half a problem is added to each outcome (Agresti & Min, Statistics in
    Medicine 24, 2005).
    """
    n, value = sum(outcomes.values()), after.value - before.value
    if n > 1 and n == before.n == after.n:
        fixed, broken = outcomes.get("fixed", 0), outcomes.get("broken", 0)
        variance = _variance(fixed, broken, n) or _variance(fixed + 0.5, broken + 0.5, n + 2)
        return Gain(value=value, stderr=math.sqrt(variance / n), n=n, paired=True)
    return Gain(value=value, stderr=math.hypot(before.stderr, after.stderr), n=min(before.n, after.n), paired=False)


def _variance(fixed: float, broken: float, n: float) -> float:
    return (fixed + broken - (fixed - broken) ** 2 / n) / (n - 1)
