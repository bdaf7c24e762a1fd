"""An evaluation as one self-contained HTML page: the table, and answers to page through.

Plain data in, text out, in the style of `racro.reports.training`; a few lines of JavaScript turn the pages. The page is
bounded: some questions of each benchmark, with thumbnails and shortened texts; all are in the results. Called by
`tasks.recording.publish_evaluation`.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from itertools import groupby

from racro.data.images import decode
from racro.evaluation.modes import ATTEMPTED, CAPTIONED, SAMPLED
from racro.reports.training import environment
from racro.schema import Entry, Frozen, Mode, Result, Verdict

CASES = 400
"""Questions on the page, over all benchmarks."""
RIGHT = 0.2
"""Share of them, at most, that every mode answered correctly."""
PER_PAGE = 8
LONGEST = 4000
"""Characters of a text on the page."""
THUMBNAIL = 360
"""Pixels of the longer side."""
SMALL = 16_384
"""Bytes of an image file that is shown as it is."""

Key = tuple[str, str]
"""Benchmark and uid."""


class Answer(Frozen):
    """One answer to a question; of several, the first."""

    mode: Mode
    reasoner: str | None
    response: str
    extracted: str | None
    verdict: Verdict
    error: str | None
    caption: str | None = None
    """The caption that it comes from, if that was chosen among several."""
    more: str | None = None
    """What the captioner wrote after the caption, if it was asked for more."""


class Case(Frozen):
    """A question with everything that was said about it."""

    benchmark: str
    uid: str
    category: str
    question: str
    gold: str
    images: tuple[bytes, ...] = ()
    """Thumbnails."""
    caption: str | None
    attempt: str | None
    answers: tuple[Answer, ...]


class EvaluationData(Frozen):
    """Everything on the page."""

    run: str
    captioner: str
    finished_at: str
    entries: tuple[Entry, ...]
    cases: tuple[Case, ...]
    questions: int
    """Asked in all; `cases` shows some of them."""
    dropped: dict[str, int]
    """Rows that cannot be asked, by benchmark, where there are any."""
    results: str
    """Where all of them are."""


def render(data: EvaluationData) -> str:
    """The page."""
    return (
        environment()
        .get_template("evaluation.html.j2")
        .render(
            data=data,
            benchmarks=list(dict.fromkeys(entry.benchmark for entry in data.entries)),
            modes=list(dict.fromkeys(entry.mode for entry in data.entries)),
            reasoners=list(dict.fromkeys(entry.reasoner for entry in data.entries if entry.reasoner)),
            verdicts=list(Verdict),
            occurring=[v for v in Verdict if v is Verdict.CORRECT or any(getattr(e, v) for e in data.entries)],
            wrong=any(answer.verdict is not Verdict.CORRECT for case in data.cases for answer in case.answers),
            per_page=PER_PAGE,
        )
    )


def choose(verdicts: Iterable[tuple[Key, Verdict]], room: int = CASES) -> list[Key]:
    """The questions to show: an equal number from each benchmark, first those that some mode did not get right.

    Too many are thinned out at even distances, so that the page covers the whole benchmark.
    """
    wrong: dict[Key, bool] = {}
    for key, verdict in verdicts:
        wrong[key] = wrong.get(key, False) or verdict is not Verdict.CORRECT
    groups = [list(keys) for _, keys in groupby(wrong, lambda key: key[0])]
    chosen: list[Key] = []
    for left, group in zip(range(len(groups), 0, -1), sorted(groups, key=len), strict=True):
        share = (room - len(chosen)) // left
        bad, good = ([key for key in group if wrong[key] is is_wrong] for is_wrong in (True, False))
        reserved = min(len(good), round(RIGHT * share))
        shown = _spread(bad, share - reserved)
        chosen += shown + _spread(good, min(reserved, share - len(shown)))
    order = {key: at for at, key in enumerate(wrong)}
    return sorted(chosen, key=order.__getitem__)


def _spread(keys: Sequence[Key], room: int) -> list[Key]:
    """At most `room` of them, at even distances."""
    if len(keys) <= room:
        return list(keys)
    return [keys[i * len(keys) // room] for i in range(room)]


def _cut(text: str) -> str:
    """A long text without its middle: its beginning and its conclusion stay."""
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST // 3]}\n\n[… {len(text) - LONGEST:,} characters …]\n\n{text[-2 * LONGEST // 3 :]}"


def thumbnail(data: bytes, name: str) -> bytes:
    """A small image file of an image file. Raises BadImage."""
    image = decode(data, name)
    if max(image.size) <= THUMBNAIL and len(data) <= SMALL:
        return data
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75, optimize=True)
    return buffer.getvalue()


def case(rows: Sequence[Result], images: Sequence[bytes]) -> Case:
    """The case of one question from its results in all modes, first answers only."""
    first = [row for row in rows if row.sample == 0]
    return Case(
        benchmark=first[0].benchmark,
        uid=first[0].uid,
        category=first[0].category,
        question=first[0].question,
        gold=first[0].answer,
        images=tuple(images),
        caption=next((_cut(row.caption) for row in first if row.caption is not None and row.mode in CAPTIONED), None),
        attempt=next((_cut(row.attempt) for row in first if row.attempt is not None and row.mode in ATTEMPTED), None),
        answers=tuple(
            Answer(
                mode=row.mode,
                reasoner=row.reasoner,
                response=_cut(row.response),
                extracted=row.extracted,
                verdict=row.verdict,
                error=row.error,
                caption=_cut(row.caption) if row.caption and row.mode in SAMPLED else None,
                more=_cut(row.attempt) if row.attempt and row.mode not in ATTEMPTED else None,
            )
            for row in first
        ),
    )
