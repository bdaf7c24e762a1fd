"""What training did to the held-out problems: counts, and the gain in accuracy with its standard error.

Not the grading (`racro.grading`). Called by `racro.reports.training`, `racro.reports.curve` and whoever writes the
summary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

from racro.schema import Judgement, Verdict

Outcome = Literal["fixed", "broken", "wrong", "right"]
"""Answer before -> after: wrong -> right, right -> wrong, wrong -> wrong, right -> right."""


class Accuracy(BaseModel):
    """A share of right answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accuracy: float
    """0 to 1."""
    stderr: float
    n: int


class Gain(BaseModel):
    """Accuracy after minus accuracy before, as shares, with its standard error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    stderr: float
    paired: bool
    """True: from the problems whose answer changed; False: as if the two evaluations were independent."""


def outcome(before: Verdict, after: Verdict) -> Outcome:
    """What training did to one problem; everything that is not correct counts as wrong."""
    if before == Verdict.CORRECT:
        return "right" if after == Verdict.CORRECT else "broken"
    return "fixed" if after == Verdict.CORRECT else "wrong"


def count_outcomes(before: Iterable[Judgement], after: Iterable[Judgement]) -> dict[Outcome, int]:
    """Outcomes over the problems that both evaluations hold."""
    first = {judgement.uid: judgement.verdict for judgement in before}
    counts: dict[Outcome, int] = dict.fromkeys(get_args(Outcome), 0)
    for judgement in after:
        if judgement.uid in first:
            counts[outcome(first[judgement.uid], judgement.verdict)] += 1
    return counts


def gain(before: Accuracy, after: Accuracy, outcomes: Mapping[Outcome, int]) -> Gain:
    """Paired where `outcomes` covers exactly the problems of both evaluations.

    Per problem the change is -1, 0 or 1; its sample variance over n problems gives the standard error. Two evaluations
    of the same problems are not independent, and taking them so overstates the error.
    """
    n, value = sum(outcomes.values()), after.accuracy - before.accuracy
    if n > 1 and n == before.n == after.n:
        fixed, broken = outcomes.get("fixed", 0), outcomes.get("broken", 0)
        variance = (fixed + broken - (fixed - broken) ** 2 / n) / (n - 1)
        return Gain(value=value, stderr=math.sqrt(variance / n), paired=True)
    return Gain(value=value, stderr=math.hypot(before.stderr, after.stderr), paired=False)
