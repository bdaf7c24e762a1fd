"""A few captions with their images, questions and answers, as Markdown: what a training writes at the moment.

Images are inside the text, as data URLs. What models wrote is quoted and escaped.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from racro.reports.training import picture
from racro.schema import Frozen, Verdict

SIDE = 280
"""Pixels of an image's longest side."""
LONGEST = 900
"""Characters of a caption or of an answer that are shown."""
MARKS = {Verdict.CORRECT: "✓", Verdict.WRONG: "✗"}


class Written(Frozen):
    """One caption, and what became of it."""

    images: tuple[bytes, ...] = ()
    """Image files."""
    question: str
    gold: str
    caption: str
    response: str
    verdict: Verdict | None
    """None if no reward grades answers."""
    reward: float | None
    """None: unscored."""


def markdown(written: Sequence[Written], title: str) -> str:
    """The page."""
    return "\n\n".join([f"# {title}", *(_one(one) for one in written)]) + "\n"


def _one(one: Written) -> str:
    images = " ".join(f"![image]({picture(data, SIDE)['src']})" for data in one.images)
    verdict = f"{MARKS.get(one.verdict, '–')} {one.verdict.value}" if one.verdict else "not graded"
    reward = "unscored" if one.reward is None else f"{one.reward:.3g}"
    parts = [
        f"## {_plain(one.question)}",
        images,
        f"gold answer **{_plain(one.gold)}** · {verdict} · reward {reward}",
        f"caption\n\n{_quoted(one.caption)}",
        f"reasoner\n\n{_quoted(one.response)}" if one.response else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _plain(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=False)


def _quoted(text: str) -> str:
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
    return "\n".join(f"> {html.escape(line, quote=False)}" for line in shown.splitlines() or ["(empty)"])
