"""Charts of an iteration's health: seconds by stage, verdicts, and small curves of single measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import MaxNLocator

from racro.curves import IterationPoint
from racro.reports.charts import COLOURS, CROWD, LIGHT, Draw, iteration_axis, legend, stage_lines

STAGES = ("caption", "rewards", "update")
VERDICTS = {"correct": "after", "wrong": "bad", "unparsed": "unsure", "truncated": "two", "failed": "five"}


def seconds(iterations: Sequence[IterationPoint]) -> Draw:
    """Seconds per iteration, stacked by stage."""
    names = {name for i in iterations for name in i.seconds}
    ordered = [*(s for s in STAGES if s in names), *sorted(names.difference(STAGES))]
    colours = dict(zip(ordered, COLOURS * len(ordered), strict=False))
    return _stacked(iterations, {n: [i.seconds.get(n, 0.0) for i in iterations] for n in ordered}, colours, "seconds")


def verdicts(iterations: Sequence[IterationPoint]) -> Draw:
    """What became of the reasoner's outputs, as shares of an iteration's captions."""
    totals = [max(1, sum(i.verdicts.values())) for i in iterations]
    seen = [verdict for verdict in VERDICTS if any(i.verdicts.get(verdict) for i in iterations)]
    shares = {v: [100 * i.verdicts.get(v, 0) / t for i, t in zip(iterations, totals, strict=True)] for v in seen}
    return _stacked(iterations, shares, VERDICTS, "share of captions, %")


def trend(iterations: Sequence[IterationPoint], values: Sequence[float | None], colour: str = "one") -> Draw:
    """One small curve; iterations without a value are left out. What is never negative has no axis below 0."""

    def draw(axes: Any) -> None:
        known = [
            (i.iteration, v) for i, v in zip(iterations, values, strict=True) if v is not None and math.isfinite(v)
        ]
        axes.plot(*zip(*known, strict=True), "-" if len(known) > CROWD else "o-", color=LIGHT[colour], lw=1.6, ms=3.5)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.margins(y=0.2)
        if all(v >= 0 for _, v in known) and axes.get_ylim()[0] < 0:
            axes.set_ylim(bottom=-0.05 * axes.get_ylim()[1])
        stage_lines(axes, iterations)
        iteration_axis(axes, [i.iteration for i in iterations], label=False)

    return draw


def _stacked(
    iterations: Sequence[IterationPoint], parts: Mapping[str, Sequence[float]], colours: Mapping[str, str], label: str
) -> Draw:
    def draw(axes: Any) -> None:
        at = [i.iteration for i in iterations]
        bottom = [0.0] * len(at)
        for name, values in parts.items():
            axes.bar(at, values, 0.74, bottom=bottom, color=LIGHT[colours[name]], label=name)
            bottom = [b + v for b, v in zip(bottom, values, strict=True)]
        iteration_axis(axes, at)
        axes.set_ylabel(label)
        legend(axes)

    return draw
