"""What is known of an iteration's rewards in numbers: means with errors, counts, correlations."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence

from racro.rewards.advantage import informative
from racro.schema import Rollout


def measured(rollouts: Sequence[Rollout], values: Sequence[float | None]) -> dict[str, float]:
    """Mean over problems and its standard error, and how many groups are informative; None counts nowhere."""
    groups: dict[str, list[float | None]] = defaultdict(list)
    for rollout, value in zip(rollouts, values, strict=True):
        groups[rollout.uid].append(value)
    means = [statistics.fmean(scored) for group in groups.values() if (scored := [v for v in group if v is not None])]
    return {
        "mean": statistics.fmean(means) if means else 0.0,
        # captions of one problem share its difficulty: problems, not captions, are the independent cases
        "stderr": statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else 0.0,
        "groups": len(groups),
        "groups_informative": sum(informative(group) for group in groups.values()),
    }


def correlation(one: Sequence[float | None], other: Sequence[float | None]) -> float | None:
    """Pearson's, over captions for which both are known; None if one of them does not vary."""
    known = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    try:
        return statistics.correlation(*zip(*known, strict=True)) if len(known) > 1 else None
    except statistics.StatisticsError:
        return None
