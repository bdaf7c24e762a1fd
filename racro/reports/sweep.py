"""The result of a sweep as one self-contained HTML page.

Plain data in, text out, in the style of `racro.reports.training`. A point has one colour on the whole page: the best
five have their own, all others are grey. Called by `tasks.sweep`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from racro.identity import digest
from racro.reports import charts
from racro.reports.charts import LIGHT, Draw
from racro.reports.training import environment
from racro.sweeps.axes import DECADE
from racro.sweeps.ranking import MARGIN, SIBLINGS, Outcome, Standing, SweepSummary

COLOURS = ("after", "one", "two", "four", "unsure")
"""Of the best points, by rank."""
REST = "before"
CLEAR = 0.07
"""Share of an axis's height that a label takes."""
LABEL = {
    "fontsize": 9,
    "color": LIGHT["muted"],
    "bbox": {"facecolor": LIGHT["card"], "edgecolor": "none", "pad": 1.0},  # lines pass behind it
}


def render(summary: SweepSummary) -> str:
    """The page."""
    ranking = summary.ranking
    made = {}
    if any(s.accuracy is not None for s in ranking):
        made["parallel"] = charts.svg(parallel(ranking), "parallel coordinates", (9.6, 3.6))
        made["curves"] = charts.svg(curves(ranking, summary.children), "learning curves", (9.6, 3.8))
    return (
        environment()
        .get_template("sweep.html.j2")
        .render(
            data=summary,
            best=ranking[0],
            keys=list(ranking[0].values),
            colours=[_colour(s) for s in ranking],
            charts={name: Markup(svg) for name, svg in made.items()},
            show=_show,
            rule={"margin": MARGIN, "siblings": SIBLINGS},
        )
    )


def _colour(standing: Standing) -> str:
    return COLOURS[standing.rank - 1] if standing.rank and standing.rank <= len(COLOURS) else REST


def _show(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


# --- parallel coordinates ---------------------------------------------------------------------------------------------


def parallel(ranking: Sequence[Standing]) -> Draw:
    """A vertical axis per swept key and one for the accuracy; a line per point. Dashed: a child of it was stopped."""
    shown = [s for s in ranking if s.accuracy is not None]
    columns = {key: [s.values[key] for s in shown] for key in ranking[0].values}
    columns["held-out accuracy, %"] = [round(100 * (s.accuracy or 0.0), 1) for s in shown]

    def draw(axes: Any) -> None:
        scales = [Scale(values) for values in columns.values()]
        for at, scale in enumerate(scales):
            axes.plot([at, at], [0, 1], color=LIGHT["muted"], lw=1.0, zorder=1)
            side = {"ha": "left", "xytext": (9, 0)} if at == len(scales) - 1 else {"ha": "right", "xytext": (-9, 0)}
            for label, height in scale.ticks():
                axes.plot([at - 0.006, at + 0.006], [height, height], color=LIGHT["muted"], lw=1.0, zorder=1)
                place = {"textcoords": "offset points", "va": "center", "zorder": 5, "parse_math": False}
                axes.annotate(label, (at, height), **place, **LABEL, **side)
        for row in reversed(range(len(shown))):  # the best on top
            standing = shown[row]
            heights = [scale.height(values[row]) for scale, values in zip(scales, columns.values(), strict=True)]
            best = standing.rank == 1
            axes.plot(
                range(len(heights)),
                heights,
                "--o" if standing.stopped else "-o",
                color=LIGHT[_colour(standing)],
                lw=2.8 if best else 1.7,
                ms=6 if best else 4.5,
                zorder=3 if best else 2,
            )
        axes.set_xticks(range(len(columns)), list(columns), color=LIGHT["ink"], parse_math=False)
        axes.xaxis.tick_top()
        axes.set_yticks([])
        axes.spines["bottom"].set_visible(False)
        axes.set_xlim(-0.3, len(columns) - 0.7)
        axes.set_ylim(-0.06, 1.06)

    return draw


class Scale:
    """Values of one axis -> heights from 0 to 1: linear, logarithmic over a decade and more, text in order."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        self.values = sorted(set(values)) if self.numeric else list({digest(v): v for v in values}.values())
        self.log = self.numeric and self.values[0] > 0 and self.values[-1] / self.values[0] >= DECADE

    def height(self, value: Any) -> float:
        """Where a value lies."""
        if len(self.values) == 1:
            return 0.5
        if not self.numeric:
            return self.values.index(value) / (len(self.values) - 1)
        low, high = self.values[0], self.values[-1]
        if self.log:
            return math.log(value / low) / math.log(high / low)
        return float((value - low) / (high - low))

    def ticks(self) -> list[tuple[str, float]]:
        """Labels and their heights: both ends, and every other value whose label does not touch one of these."""
        kept: dict[float, str] = {}
        for value in [self.values[0], self.values[-1], *self.values[1:-1]]:
            height = self.height(value)
            if all(abs(height - other) > CLEAR for other in kept):
                kept[height] = f"{value:.4g}" if isinstance(value, float) else str(value)[:28]
        return [(label, height) for height, label in kept.items()]


# --- learning curves --------------------------------------------------------------------------------------------------


def curves(ranking: Sequence[Standing], children: Sequence[Outcome]) -> Draw:
    """Held-out accuracy of every child over iterations; a cross where one was stopped or failed."""
    colours = {name: _colour(standing) for standing in ranking for name in standing.children}
    places = {name: place for place, standing in enumerate(ranking) for name in standing.children}
    shown = sorted((c for c in children if c.curve), key=lambda c: -places[c.child])  # the best on top

    def draw(axes: Any) -> None:
        for child in shown:
            at, values = [m.iteration for m in child.curve], [100 * m.accuracy for m in child.curve]
            axes.plot(at, values, "o-", color=LIGHT[colours[child.child]], lw=1.8, ms=4, alpha=0.85)
            if child.status != "finished":
                axes.plot(at[-1], values[-1], "x", color=LIGHT["bad"], ms=10, mew=2.2, zorder=4)
        charts.iteration_axis(axes, [m.iteration for c in shown for m in c.curve])
        charts.percent_limits(axes, [100 * m.accuracy for c in shown for m in c.curve])
        axes.set_ylabel("held-out accuracy, %")

    return draw
