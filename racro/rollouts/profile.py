"""Pass rates of problems: how often a policy's captions led to the right answer, by problem and all in all."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from racro.schema import PassRate, RewardRow, Share
from racro.schema.shares import standard_error
from racro.summary import Band

BOUNDS = (0.25, 0.5, 0.75)
"""Upper ends of the bands between never and always right."""


def rates(uids: Sequence[str], rows: Iterable[RewardRow]) -> list[PassRate]:
    """The pass rate of each problem, from the values of the reward `answer`; a second group of a problem counts not."""
    found: dict[str, dict[int, float | None]] = {}
    for row in rows:
        found.setdefault(row.uid, {}).setdefault(row.sample, row.value)
    scored = {uid: [value for value in own.values() if value is not None] for uid, own in found.items()}
    return [
        PassRate(uid=uid, rate=statistics.fmean(own) if own else None, scored=len(own))
        for uid in uids
        for own in [scored.get(uid, [])]
    ]


def measured(rows: Sequence[PassRate]) -> dict[str, float]:
    """Mean over problems with its standard error, and how many could be measured.

    Where all rates are equal, the error is that of a share of as many independent cases.
    """
    known = [row.rate for row in rows if row.rate is not None]
    mean = statistics.fmean(known) if known else 0.0
    varied = len({*known}) > 1
    return {
        "pass_rate_mean": mean,
        "pass_rate_stderr": statistics.stdev(known) / math.sqrt(len(known))
        if varied
        else standard_error(mean, len(known)),
        "measured": len(known),
        "unmeasured": len(rows) - len(known),
    }


def bands(rates: Sequence[float]) -> tuple[Band, ...]:
    """Never right, the bands between, and always right, each with its share of the problems."""
    lower = (0.0, *BOUNDS)
    names = (
        "0",
        *(f"above {a:g} to {b:g}" for a, b in zip(lower, BOUNDS, strict=False)),
        f"above {BOUNDS[-1]:g} below 1",
        "1",
    )
    counts = [0] * len(names)
    for rate in rates:
        place = next((i for i, bound in enumerate(BOUNDS, 1) if rate <= bound), len(BOUNDS) + 1)
        counts[0 if rate == 0 else len(names) - 1 if rate == 1 else place] += 1
    return tuple(
        Band(name=name, share=share, problems=count)
        for name, count in zip(names, counts, strict=True)
        if (share := Share.counted(count, len(rates)))
    )
