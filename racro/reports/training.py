"""The result of a training as one self-contained HTML page.

Plain data in, text out: `tasks.recording.report` gathers the data; the page needs no network and no JavaScript. Figures
come with their standard error and n. The README's figure is `racro.reports.curve`, the drawing `racro.reports.charts`.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import jinja2
from markupsafe import Markup
from PIL import Image
from pydantic import Field

from racro.curves import EvalPoint, IterationPoint
from racro.embedded.oracle import Facts
from racro.evaluation.outcomes import Gain, Outcome, gain, outcome
from racro.pace import duration
from racro.prompts import IMAGE_TAG
from racro.reports import charts, health
from racro.schema import Frozen, Verdict
from racro.summary import StageTotal

REFRESH = 15
"""Seconds after which a browser loads the page of a running training again."""
MAX_SIDE = 560
"""Pixels; larger images are scaled down for the page."""
WEB_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
PIXEL_ART = 200
"""Pixels; narrower images are enlarged without smoothing."""


class Answered(Frozen):
    """A caption and what the reasoner made of it."""

    caption: str
    response: str
    verdict: Verdict
    facts: Facts | None = None
    """The caption compared with its scene; None if the problem has no scene."""


class Sample(Frozen):
    """One held-out problem; `after` is None when only one policy was evaluated."""

    images: tuple[bytes, ...] = ()
    """Image files."""
    question: str
    answer: str
    category: str
    before: Answered
    after: Answered | None = None

    @property
    def outcome(self) -> Outcome:
        return outcome(self.before.verdict, (self.after or self.before).verdict)


class Setting(Frozen):
    """One key of the recipe."""

    key: str
    value: str
    default: str
    """Empty if there is none."""
    differs: bool


class ReportData(Frozen):
    """Everything on the page."""

    run: str
    recipe_digest: str
    seed: int
    captioner: str = ""
    reasoner: str = ""
    running: str = ""
    """How far a training is that goes on; empty: it is over."""
    finished_at: str | None = None
    """When it ended; while it goes on, when the page was written."""
    evaluations: Annotated[tuple[EvalPoint, ...], Field(min_length=1)]
    """In order; the first is `before`, the last `after`."""
    iterations: tuple[IterationPoint, ...] = ()
    stages: dict[str, StageTotal] = Field(default_factory=dict)
    outcomes: dict[Outcome, int] = Field(default_factory=dict)
    """Counts over all held-out problems (`outcomes.count_outcomes`), not only those shown."""
    samples: tuple[Sample, ...] = ()
    alarms: tuple[str, ...] = ()
    """Signs of drift, one line each."""
    shortages: tuple[str, ...] = ()
    """Where the recipe asked for more problems than there are."""
    settings: tuple[Setting, ...] = ()
    """The recipe, what differs from the defaults first."""
    closest: str = ""
    """Name of the shipped recipe that differs least; empty: none is close."""
    changes: tuple[Setting, ...] = ()
    """The keys in which it does, with its values in place of defaults."""
    facts: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Title -> label -> text: cost, machine, versions."""
    links: dict[str, str] = Field(default_factory=dict)
    """Label -> where else this run can be seen; web addresses become links."""

    @property
    def gain(self) -> Gain | None:
        """None with a single evaluation."""
        if len(self.evaluations) == 1:
            return None
        return gain(self.evaluations[0].share, self.evaluations[-1].share, self.outcomes)


def render(data: ReportData) -> str:
    """The page."""
    return (
        environment()
        .get_template("training.html.j2")
        .render(
            data=data,
            first=data.evaluations[0],
            last=data.evaluations[-1],
            gain=data.gain,
            charts=_charts(data),
            shown={name: [s for s in data.samples if s.outcome == name] for name in get_args(Outcome)},
            captions=[i.captions for i in data.iterations],
            refresh=REFRESH,
        )
    )


def environment() -> jinja2.Environment:
    """The templates of all pages, and the filters that they use."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "duration": duration,
        "number": _number,
        "percent": _percent,
        "picture": picture,
        "tagged": _tagged,
    }
    return made


def _charts(data: ReportData) -> dict[str, Markup]:
    """The charts for which there are data, by name."""
    evaluations, iterations = data.evaluations, data.iterations
    first, last = evaluations[0], evaluations[-1] if len(evaluations) > 1 else None
    sizes = {"accuracy": (9.6, 3.1), "accuracy_narrow": (4.6, 3.1)}
    made = {name: charts.svg(charts.accuracy(evaluations), "held-out accuracy", size) for name, size in sizes.items()}
    if any(v is not None for e in evaluations for v in (e.truthful, e.states_asked, e.leaks)):
        made["oracle"] = charts.svg(charts.oracle(evaluations), "what captions say")
    if first.by_category and len(evaluations) > 2:
        made["by_category"] = charts.svg(charts.by_category(evaluations), "accuracy by category and iteration")
    if first.by_category:
        size = (6.0, max(2.2, 0.9 + 0.42 * len(first.by_category)))
        made["categories"] = charts.svg(charts.categories(first, last), "accuracy by category", size)
    if iterations:
        made["reward"] = charts.svg(charts.reward(iterations), "mean reward")
        if any(len(i.rewards) > 1 for i in iterations):
            made["rewards"] = charts.svg(charts.rewards(iterations), "mean value of each reward")
        if any(i.seconds for i in iterations):
            made["seconds"] = charts.svg(health.seconds(iterations), "seconds by stage")
        if any(i.verdicts for i in iterations):
            made["verdicts"] = charts.svg(health.verdicts(iterations), "verdicts")
    stale = ("staleness_nats", "importance_clipped") if any(i.staleness_steps for i in iterations) else ()
    for name in ("kl", "logprob_gap", "entropy", "clip_ratio", *stale, "caption_tokens_mean"):
        values: list[float | None] = [getattr(i, name) for i in iterations]
        if any(v is not None and math.isfinite(v) for v in values):
            made[name] = charts.svg(health.trend(iterations, values), name, (3.2, 1.7))
    if iterations:
        shares: list[float | None] = [i.informative_groups / i.groups if i.groups else None for i in iterations]
        made["informative"] = charts.svg(health.trend(iterations, shares), "informative groups", (3.2, 1.7))
    return {name: Markup(svg) for name, svg in made.items()}


# --- filters of the template ------------------------------------------------------------------------------------------


def _percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f}"


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else f"{value:,}"


def _tagged(question: str) -> str:
    """Image placeholders as [image 1], [image 2], ..."""
    first, *rest = question.split(IMAGE_TAG)
    return (first + "".join(f"[image {n}]{text}" for n, text in enumerate(rest, 1))).strip()


def picture(data: bytes, side: int = MAX_SIDE) -> Mapping[str, Any]:
    """Address and size of an image inside the page. side: its longest, in pixels."""
    image: Image.Image = Image.open(io.BytesIO(data))
    kind = Image.MIME.get(image.format or "", "")
    if max(image.size) > side or kind not in WEB_IMAGES:
        image = image.convert("RGB")
        image.thumbnail((side, side))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        data, kind = buffer.getvalue(), "image/png"
    address = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return {"src": address, "width": image.width, "height": image.height, "tiny": image.width < PIXEL_ART}
