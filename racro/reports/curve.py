"""The README's figure: accuracy, reward and one example of a training, 1200 x 520 pixels.

It shares drawing (`racro.reports.charts`) and data (`racro.reports.training`) with the report. Called by
`tasks.recording.report`.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from racro.prompts import IMAGE_TAG
from racro.reports import charts
from racro.reports.charts import LIGHT
from racro.reports.training import Answered, ReportData, Sample
from racro.schema import Verdict

LINE = 43
"""Characters per line of the example."""
LEADING = 0.058
"""Height of a line, in axes coordinates."""


def curve_png(data: ReportData) -> bytes:
    """The figure. Equal data give equal bytes."""
    example = choose_example(data.samples)
    panels = 1 + bool(data.iterations) + (example is not None)
    with matplotlib.rc_context(charts.STYLE):
        figure = Figure(figsize=(12, 5.2), dpi=100)
        grid = figure.add_gridspec(
            1, panels, left=0.06, right=0.975, bottom=0.12, top=0.78, wspace=0.24, width_ratios=[1.2, 1, 1.05][:panels]
        )
        axes = figure.add_subplot(grid[0])
        charts.accuracy(data.evaluations)(axes)
        _heading(axes, "Held-out accuracy", "reasoner frozen, greedy captions, ± 1 standard error")
        if data.iterations:
            axes = figure.add_subplot(grid[1])
            if any(len(i.rewards) > 1 for i in data.iterations):
                charts.rewards(data.iterations)(axes)
                _heading(axes, "Rewards", "of sampled captions, before weights and gates")
                axes.legend(loc="best", frameon=False)
            else:
                charts.reward(data.iterations)(axes)
                _heading(axes, "Reward", "of sampled captions, training problems")
        if example is not None:
            _example(figure.add_subplot(grid[panels - 1]), example)
        figure.text(0.06, 0.92, _headline(data), fontsize=17, weight="bold", color=LIGHT["ink"], parse_math=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def choose_example(samples: Sequence[Sample]) -> Sample | None:
    """The problem that the figure shows: one that training set right, with an image; None where none is.

    Where scenes are known, one is preferred whose captions only describe: before, true facts, but not those asked for;
    after, at least two facts, all of them true and none said twice. A caption that announces an answer, or that
    repeats what was asked for, would look like reward hacking.
    """
    fixed = [sample for sample in samples if sample.outcome == "fixed" and sample.images]
    return max(fixed, key=_fair, default=None)  # of equally good ones the first


def _fair(sample: Sample) -> tuple[bool, bool, bool]:
    before, after = sample.before.facts, sample.after.facts if sample.after else None
    if sample.after is None or before is None or after is None:
        return False, False, False
    plain = not (before.leaks or after.leaks)
    describes = after.stated >= 2 and after.true == after.stated and 0 < before.true == before.stated
    sentences = [sentence.strip() for sentence in sample.after.caption.split(".") if sentence.strip()]
    return plain and describes and len(set(sentences)) == len(sentences), plain and describes, plain


def _headline(data: ReportData) -> str:
    first, last, gained = data.evaluations[0], data.evaluations[-1], data.gain
    if gained is None:
        return f"{first.share.percent} % held-out accuracy (n = {first.n:,})"
    return (
        f"{100 * first.accuracy:.1f} % → {100 * last.accuracy:.1f} % held-out accuracy, "
        f"{gained.percent} points (n = {last.n:,}, seed {data.seed})"
    )


def _heading(axes: Any, title: str, subtitle: str) -> None:
    axes.annotate(title, (0, 1), (0, 24), "axes fraction", "offset points", fontsize=12, weight="bold")
    axes.annotate(subtitle, (0, 1), (0, 9), "axes fraction", "offset points", fontsize=9.5, color=LIGHT["muted"])


def _example(axes: Any, sample: Sample) -> None:
    """A problem that training set right: image, question, and the captions before and after."""
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    _heading(axes, "One held-out problem", "a wrong answer that became right")
    image = Image.open(io.BytesIO(sample.images[0])).convert("RGB")
    box = axes.inset_axes((0.0, 0.72, 1.0, 0.28))
    box.imshow(image, interpolation="nearest" if image.width < 200 else "antialiased")
    box.set_anchor("W")
    box.set_xticks([])
    box.set_yticks([])
    box.grid(False)
    for spine in box.spines.values():
        spine.set(visible=True, color=LIGHT["grid"])
    y = _paragraph(axes, 0.67, sample.question, lines=2, weight="bold")
    if sample.after is not None:
        for title, answered in (("before", sample.before), ("after", sample.after)):
            y = _turn(axes, y, title, answered)


def _turn(axes: Any, top: float, title: str, answered: Answered) -> float:
    colour = "after" if answered.verdict == Verdict.CORRECT else "bad"
    heading = {"va": "top", "fontsize": 9.5, "weight": "bold", "color": LIGHT[colour]}
    axes.text(0.03, top, f"{title}: {answered.verdict.value}", **heading)
    bottom = _paragraph(axes, top - LEADING, answered.caption, lines=2, indent=0.03)
    end = " ".join(answered.response.split())
    end = end if len(end) <= LINE - 10 else f"… {end[-LINE + 12 :]}"  # a long answer ends with its result
    style = {"va": "top", "fontsize": 9.5, "color": LIGHT["muted"], "parse_math": False}
    axes.text(0.03, bottom + 0.01, f"reasoner: {end}", **style)
    bottom -= LEADING
    axes.plot([0.0, 0.0], [top, bottom + 0.02], color=LIGHT[colour], lw=3, solid_capstyle="butt", clip_on=False)
    return bottom - 0.045


def _paragraph(axes: Any, top: float, text: str, lines: int, indent: float = 0.0, weight: str = "normal") -> float:
    """Wrapped text below `top`; returns where it ends."""
    words = " ".join(text.replace(IMAGE_TAG, " ").split())
    wrapped = textwrap.wrap(words, LINE, max_lines=lines, placeholder=" …")
    style = {"va": "top", "fontsize": 9.5, "linespacing": 1.3, "parse_math": False, "color": LIGHT["ink"]}
    axes.text(indent, top, "\n".join(wrapped), weight=weight, **style)
    return top - LEADING * len(wrapped) - 0.02
