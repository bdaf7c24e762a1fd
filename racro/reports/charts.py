"""Charts of a training as inline SVG.

Colours are CSS variables with the light theme's value as fallback, so that the page's theme colours the charts. Text
stays text. Equal data give equal bytes. Called by the pages and by `racro.reports.curve`.
"""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from racro.curves import EvalPoint, IterationPoint
from racro.schema import Share

LIGHT = {
    "ink": "#1b2530",
    "muted": "#5f6b78",
    "grid": "#e4e8ec",
    "before": "#93a1b0",
    "after": "#0b7a75",
    "reward": "#b4641b",
    "bad": "#c2383a",
    "unsure": "#d9a522",
    "one": "#3a6ea5",
    "two": "#c9802b",
    "three": "#0b7a76",
    "four": "#8a5a9e",
    "five": "#94a2b1",
    "card": "#ffffff",
}
"""Name of the CSS variable -> its value in the light theme; no value twice, the page replaces by value."""
LONGEST_LABEL = 40
"""Characters of a category in a chart."""
CROWD = 30
"""Points above which error bars become a band and markers are left out."""
COLOURS = ("one", "two", "three", "four", "five")
DASHES = ("-", "--", ":")
"""Of lines whose colours repeat."""

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.size": 10.0,
    "text.color": LIGHT["ink"],
    "axes.edgecolor": LIGHT["grid"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "axes.spines.left"), False),
    "grid.color": LIGHT["grid"],
    "grid.linewidth": 0.8,
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    **dict.fromkeys(("xtick.major.size", "ytick.major.size"), 0.0),
    "legend.frameon": False,
    "legend.fontsize": 9.5,
}

TRANSPARENT = {"figure.facecolor": "none", "axes.facecolor": "none"}

Draw = Callable[[Any], None]
"""Draws on a matplotlib Axes."""


def svg(draw: Draw, name: str, size: tuple[float, float] = (6.0, 3.0)) -> str:
    """A chart as an `<svg>` element that takes the page's colours, font and width. `size` in inches."""
    with matplotlib.rc_context({**STYLE, **TRANSPARENT, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        # Not by `savefig`, which draws everything once before it does.
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    text = re.sub(r"^.*?(?=<svg)|<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    text = re.sub(r' id="[a-zA-Z0-9.]+_\d+"', "", text)  # figure_1, axes_1 ...: an id may stand in a page only once
    text = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{name}">', text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)
    for variable, value in LIGHT.items():
        text = text.replace(value, f"var(--{variable}, {value})")
    return text


# --- learning ---------------------------------------------------------------------------------------------------------


def accuracy(evaluations: Sequence[EvalPoint]) -> Draw:
    """Held-out accuracy over iterations, one standard error either way; none for a single problem."""

    def draw(axes: Any) -> None:
        at = [e.iteration for e in evaluations]
        values, errors = [100 * e.accuracy for e in evaluations], [100 * e.stderr * (e.n > 1) for e in evaluations]
        _error_line(axes, at, values, errors, "after")
        percent_limits(axes, [v + sign * e for v, e in zip(values, errors, strict=True) for sign in (-1, 1)])
        for i in sorted({0, len(at) - 1}):
            # The first label goes to the side that the curve does not take.
            below = i == 0 and len(at) > 1 and values[1] > values[0]
            place = {"textcoords": "offset points", "ha": "center", "va": "top" if below else "bottom"}
            end = values[i] - errors[i] if below else values[i] + errors[i]
            axes.annotate(f"{values[i]:.1f}", (at[i], end), (0, -6 if below else 6), weight="bold", **place)
        iteration_axis(axes, at)
        axes.set_ylabel("held-out accuracy, %")

    return draw


def reward(iterations: Sequence[IterationPoint]) -> Draw:
    """Mean reward of the sampled captions, one standard error either way."""

    def draw(axes: Any) -> None:
        at = [i.iteration for i in iterations]
        _error_line(axes, at, [i.reward_mean for i in iterations], [i.reward_stderr for i in iterations], "reward")
        stage_lines(axes, iterations)
        iteration_axis(axes, at)
        axes.set_ylabel("mean reward of captions")

    return draw


def rewards(iterations: Sequence[IterationPoint]) -> Draw:
    """Mean value of each reward of the sum."""
    at = [i.iteration for i in iterations]
    names = dict.fromkeys(name for i in iterations for name in i.rewards)
    series = {name: [i.rewards.get(name, math.nan) for i in iterations] for name in names}

    def draw(axes: Any) -> None:
        _lines(axes, at, series)
        stage_lines(axes, iterations)
        axes.set_ylabel("mean value")

    return draw


def by_category(evaluations: Sequence[EvalPoint]) -> Draw:
    """Held-out accuracy of each category over iterations."""
    at = [e.iteration for e in evaluations]
    names = sorted({name for e in evaluations for name in e.by_category})
    known = {name: [e.by_category.get(name) for e in evaluations] for name in names}
    series = {name: [100 * s.value if s else math.nan for s in shares] for name, shares in known.items()}

    def draw(axes: Any) -> None:
        _lines(axes, at, series)
        percent_limits(axes, [v for values in series.values() for v in values if math.isfinite(v)])
        axes.set_ylabel("accuracy, %")

    return draw


def _label(name: str) -> str:
    """A category, which is anybody's words, on one line of a chart and not as mathematics."""
    line = " ".join(name.split())
    return (line if len(line) <= LONGEST_LABEL else f"{line[: LONGEST_LABEL - 1]}…").replace("$", r"\$")


def _lines(axes: Any, at: Sequence[int], series: Mapping[str, Sequence[float]]) -> None:
    """One line for each name."""
    for number, (name, values) in enumerate(series.items()):
        style = {"color": LIGHT[COLOURS[number % len(COLOURS)]], "ls": DASHES[number // len(COLOURS) % len(DASHES)]}
        marker = "" if len(at) > CROWD else "o"
        axes.plot(at, values, marker=marker, label=_label(name), lw=1.8, ms=3.5, **style)
    iteration_axis(axes, at)
    legend(axes)


def oracle(evaluations: Sequence[EvalPoint]) -> Draw:
    """What the captions say, compared with the known scene."""
    series = (
        ("true statements", "after", [e.truthful for e in evaluations]),
        ("states what is asked", "one", [e.states_asked for e in evaluations]),
        ("announces an answer", "bad", [e.leaks for e in evaluations]),
    )

    def draw(axes: Any) -> None:
        for label, colour, values in series:
            known = [(e.iteration, 100 * v) for e, v in zip(evaluations, values, strict=True) if v is not None]
            if known:
                axes.plot(*zip(*known, strict=True), "o-", color=LIGHT[colour], label=label, lw=2, ms=4.5)
        axes.set_ylim(-4, 104)
        iteration_axis(axes, [e.iteration for e in evaluations])
        axes.set_ylabel("share, %")
        legend(axes)

    return draw


def categories(before: EvalPoint, after: EvalPoint | None) -> Draw:
    """Accuracy by category as pairs of bars with 95 % intervals."""
    names = sorted(before.by_category.keys() | (after.by_category.keys() if after else set()), reverse=True)
    series = [("before", before)] + ([("after", after)] if after else [])

    def draw(axes: Any) -> None:
        height = 0.72 / len(series)
        for k, (label, point) in enumerate(series):
            cells = [(y, point.by_category[name]) for y, name in enumerate(names) if name in point.by_category]
            axes.barh(
                [y + (0.5 * (len(series) - 1) - k) * height for y, _ in cells],
                [100 * cell.value for _, cell in cells],
                height * 0.92,
                xerr=_reach([cell for _, cell in cells]),
                color=LIGHT[label],
                error_kw={"ecolor": LIGHT["ink"], "elinewidth": 1.0, "capsize": 2},
                label=f"{label} (iteration {point.iteration})",
            )
        counted = after or before
        labels = [
            f"{_label(name)}  (n {counted.by_category[name].n})" if name in counted.by_category else _label(name)
            for name in names
        ]
        axes.set_yticks(range(len(names)), labels, color=LIGHT["ink"])
        axes.set_xlim(0, 108)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        axes.set_xlabel("accuracy, %")
        if len(series) > 1:
            legend(axes)

    return draw


def _reach(shares: Sequence[Share]) -> list[list[float]]:
    """How far the 95 % intervals reach below and above the shares, in percentage points."""
    low_high = [share.interval for share in shares]
    below = [100 * (share.value - low) for share, (low, _) in zip(shares, low_high, strict=True)]
    above = [100 * (high - share.value) for share, (_, high) in zip(shares, low_high, strict=True)]
    return [below, above]


# --- parts of charts --------------------------------------------------------------------------------------------------


def _error_line(axes: Any, at: Sequence[int], values: Sequence[float], errors: Sequence[float], colour: str) -> None:
    if len(at) <= CROWD:
        drawn = [error or math.nan for error in errors]
        axes.errorbar(at, values, drawn, fmt="o-", color=LIGHT[colour], lw=2.2, ms=5, elinewidth=1.4, capsize=3.5)
        return
    low, high = ([v + sign * e for v, e in zip(values, errors, strict=True)] for sign in (-1, 1))
    axes.fill_between(at, low, high, color=LIGHT[colour], alpha=0.25, lw=0)
    axes.plot(at, values, color=LIGHT[colour], lw=1.6)


def iteration_axis(axes: Any, at: Sequence[int], label: bool = True) -> None:
    """Whole iterations as ticks, with room at both ends."""
    span = max(at) - min(at)
    if span <= 8:
        axes.set_xticks(range(min(at), max(at) + 1))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlim(min(at) - max(0.6, 0.04 * span), max(at) + max(0.6, 0.04 * span))
    if label:
        axes.set_xlabel("iteration")


def percent_limits(axes: Any, values: Sequence[float]) -> None:
    """Limits around the values, at least 20 points apart, so that noise does not look like a trend."""
    room = max(3.0, (20 - (max(values) - min(values))) / 2, 0.12 * (max(values) - min(values)))
    axes.set_ylim(max(-2.0, min(values) - room), min(106.0, max(values) + room))


def stage_lines(axes: Any, iterations: Sequence[IterationPoint]) -> None:
    """A line where a stage of the training begins, but for the first."""
    for before, after in itertools.pairwise(iterations):
        if after.stage != before.stage:
            axes.axvline(after.iteration - 0.5, color=LIGHT["muted"], lw=1, ls=":")


def legend(axes: Any) -> None:
    """The names of lines or bars, above the axes."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=5, borderaxespad=0.2, handlelength=1.0, columnspacing=1.0
    )
