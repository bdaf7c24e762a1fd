"""Rows of a data source -> Problems: every row is checked, every image decoded once, drops are counted by reason.

Not the reading of files (`racro.data.sources`) or of one row (`racro.data.rows`). Images that have no file are written
into the artifact's folder; the caller writes the table and, last, the record. Called by `tasks.prepare`.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, TypeVar

from racro import config
from racro.data import filters, sources, splits
from racro.data.archives import unpacked
from racro.data.cells import Unusable
from racro.data.chats import messages_in
from racro.data.contamination import Index
from racro.data.filters import UNKNOWN
from racro.data.lengths import Fit
from racro.data.rows import INLINE_FOLDER, Files, asked, check, draft_row, inline_ref, with_placeholders
from racro.data.sources import BadSource, Row, Source
from racro.data.statistics import Statistics, pass_rate_band, statistics
from racro.embedded import world
from racro.errors import BadInput
from racro.identity import digest
from racro.schema import DroppedRow, Fingerprint, Overlap, Problem
from racro.storage.files import is_local, opened, with_retries

WRITE_BATCH = 32
"""Images that are written at a time."""
READERS = 4
"""Threads that fetch and decode images."""


class TooManyBadRows(BadInput):
    """More than `problems.max_bad_share` of a source is unusable. The message counts the reasons."""


@dataclass(frozen=True)
class Prepared:
    """The problems of one split."""

    problems: tuple[Problem, ...]
    dropped: tuple[DroppedRow, ...]
    """Of the whole source, both splits: a row without an image belongs to neither."""
    overlaps: tuple[Overlap, ...]
    """With benchmarks, of the whole source."""
    statistics: Statistics
    origins: Mapping[str, str] = field(default_factory=dict)
    """Names of the collections that problems come from, by uid, where rows say so."""

    def digest(self) -> str:
        """Digest of the problems."""
        return content_digest(self.problems)


def content_digest(problems: Sequence[Problem]) -> str:
    """Digest of problems: image hashes count, image paths do not."""
    return digest([p.model_copy(update={"images": [i.sha256 for i in p.images]}) for p in problems])


def load(
    problems: config.Problems,
    folder: str,
    seed: int,
    heldout: int | None = None,
    fingerprints: Iterable[Fingerprint] = (),
    fit: Fit | None = None,
) -> Prepared:
    """The training problems, or with `heldout` that many held-out ones (all there are, when there are fewer).

    `fingerprints` are those of the benchmarks that rows are compared with; `fit` knows what the models can read. Images
    that come without a file are written under `folder`/images. The same arguments give the same problems; a larger
    `heldout` extends a smaller one. Raises BadSource, TooManyBadRows.
    """
    if isinstance(problems, config.EmbeddedProblems):
        return _embedded(problems, folder, seed, heldout)
    location = problems.source if heldout is None else problems.heldout_source or problems.source
    source = unpacked(sources.open_source(location, problems.split), problems.columns.image)
    files = Files()
    kept, dropped = _check_rows(source, problems, files, fit or Fit())
    index = Index(fingerprints)
    overlaps = {row.number: index.overlaps(row.number, row.problem, files.looks) for row in kept}
    if problems.overlapping == "drop":
        dropped += [_taken(source.name, *found) for found in overlaps.values() if found]
        kept = [row for row in kept if not overlaps[row.number]]
    rows = len(kept) + len(dropped)
    if problems.heldout_source is None:
        groups = splits.groups([[image.sha256 for image in row.problem.images] for row in kept])
        held = [splits.is_heldout(group, seed, problems.heldout_share) for group in groups]
        kept = [row for row, h in zip(kept, held, strict=True) if h == (heldout is not None)]
    if not kept:
        part, remedy = ("held-out", " or name a problems.heldout_source") if heldout is not None else ("training", "")
        raise BadSource(f"{source.name}: no usable row falls to the {part} part; add rows{remedy}")
    if heldout is not None:
        kept = sorted(kept, key=lambda row: splits.rank(row.problem, seed))[:heldout]
    _write_inline_images(source, problems.columns, kept, folder)
    found = tuple(overlap for of_row in overlaps.values() for overlap in of_row)
    return Prepared(
        tuple(row.problem for row in kept),
        tuple(dropped),
        found,
        statistics(
            rows,
            dropped,
            found,
            [row.problem for row in kept],
            repaired=sum(row.repaired for row in kept),
            asked=heldout,
            origin=[row.traits.origin for row in kept],
            pass_rate=[pass_rate_band(row.traits.pass_rate) for row in kept],
        ),
        {row.problem.uid: row.traits.origin for row in kept if row.traits.origin != UNKNOWN},
    )


def _embedded(problems: config.EmbeddedProblems, folder: str, seed: int, heldout: int | None) -> Prepared:
    count = problems.count if heldout is None else heldout
    split: world.Split = "train" if heldout is None else "heldout"
    rendered: dict[str, bytes] = {}

    def convert(made: world.BarProblem) -> Problem:
        refs = []
        for image in made.images():
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            ref = inline_ref(buffer.getvalue())
            rendered[ref.path] = buffer.getvalue()
            refs.append(ref)
        return Problem(
            uid=made.uid,
            question=made.question,
            answer=made.answer,
            kind=made.kind,
            category=made.category,
            choices=made.choices,
            images=tuple(refs),
            scene=made.scene_json(),
        )

    converted = tuple(convert(made) for made in world.generate(split, seed, count))
    write_files(rendered.items(), folder)
    return Prepared(converted, (), (), statistics(len(converted), (), (), converted, asked=heldout))


# --- rows -------------------------------------------------------------------------------------------------------------


class Kept(NamedTuple):
    """A usable row, and its number in the source."""

    number: int
    problem: Problem
    traits: filters.Traits
    repaired: bool
    """Placeholders were added."""


def _check_rows(
    source: Source, problems: config.ForeignProblems, files: Files, fit: Fit
) -> tuple[list[Kept], list[DroppedRow]]:
    kept: list[Kept] = []
    dropped: list[DroppedRow] = []
    seen: set[str] = set()

    def read(numbered: tuple[int, Row]) -> Kept | Unusable:
        number, row = numbered
        try:
            traits = filters.select(row, problems)
            draft = draft_row(number, row, problems.columns)
            placed = with_placeholders(draft)
            problem = check(placed, source.base, files)
            fit.require(problem.question, [files.sizes[image.sha256] for image in problem.images])
            return Kept(number, problem, traits, placed != draft)
        except Unusable as error:
            return error

    rows = source.rows(_require_columns(source, problems.columns))
    for number, result in enumerate(in_batches(read, enumerate(rows))):
        if isinstance(result, Kept) and result.problem.uid in seen:
            result = Unusable("duplicate uid", result.problem.uid)
        if isinstance(result, Kept):
            seen.add(result.problem.uid)
            kept.append(result)
        else:
            dropped.append(result.row(source.name, number))
    bad = [row for row in dropped if not row.deliberate]
    total = len(kept) + len(bad)
    if not kept and not dropped:
        raise BadSource(f"{source.name} holds no rows; correct problems.source")
    if len(bad) > problems.max_bad_share * total:
        counts = ", ".join(f"{reason} {n}" for reason, n in Counter(d.reason for d in bad).most_common())
        first = f"row {bad[0].row}: {bad[0].reason}: {bad[0].detail}"
        raise TooManyBadRows(
            f"{source.name}: {len(bad)} of {total} rows are unusable ({counts}), more than "
            f"problems.max_bad_share = {problems.max_bad_share:g} allows; the first is {first}"
        )
    return kept, dropped


def _taken(source: str, first: Overlap, *more: Overlap) -> DroppedRow:
    what = ", ".join(f"{overlap.benchmark} {overlap.question} by {overlap.by}" for overlap in (first, *more))
    return filters.LeftOut("overlaps with a benchmark", f"{first.uid}: {what}").row(source, first.row)


def _require_columns(source: Source, columns: config.Columns) -> list[str]:
    if not source.columns:
        raise BadSource(f"{source.name} holds no rows; correct problems.source")
    wanted = {key: name for key, name in columns.model_dump().items() if name is not None}
    if columns.image not in source.columns and columns.question in source.columns:
        first = next(iter(source.rows([columns.question])), {})
        with contextlib.suppress(Unusable):  # of that row alone
            if messages_in(first.get(columns.question)):
                del wanted["image"]  # chat messages bring their images along
    for key, name in wanted.items():
        if name not in source.columns:
            there = ", ".join(source.columns) or "none at all"
            raise BadSource(f"{source.name} has no column {name!r}; set problems.columns.{key} to one of: {there}")
    source.require_single(list(wanted.values()))
    return list(dict.fromkeys(wanted.values()))


T = TypeVar("T")


def in_batches(check: Callable[[tuple[int, Row]], T], rows: Iterable[tuple[int, Row]]) -> Iterator[T]:
    """`check` over rows on a few threads, in order, a batch in memory at a time."""
    rows = iter(rows)
    with ThreadPoolExecutor(READERS) as pool:
        while batch := list(islice(rows, sources.BATCH)):
            yield from pool.map(check, batch)


# --- images -----------------------------------------------------------------------------------------------------------


def _write_inline_images(source: Source, columns: config.Columns, kept: Sequence[Kept], folder: str) -> None:
    """Read the source once more and write those images of the kept rows that have no file."""
    wanted = {
        row.number: {i.path for i in row.problem.images if i.path.startswith(f"{INLINE_FOLDER}/")} for row in kept
    }
    missing = set().union(*wanted.values())
    if not missing:
        return

    def found() -> Iterator[tuple[str, bytes]]:
        read = [name for name in dict.fromkeys((columns.question, columns.image)) if name in source.columns]
        for number, row in enumerate(source.rows(read)):
            for item in asked(row, columns)[1] if wanted.get(number) else ():
                if isinstance(item, bytes) and (path := inline_ref(item).path) in missing:
                    missing.discard(path)
                    yield path, item

    write_files(found(), folder)
    if missing:
        raise BadSource(f"{source.name} changed while it was read; run again")


def write_files(files: Iterable[tuple[str, bytes]], folder: str) -> None:
    """Write images in bulk. A kill halfway does no harm: without a record they count as leftovers."""
    fs, root = opened(folder)
    if is_local(fs):  # object stores have no folders to make
        fs.makedirs(f"{root}/{INLINE_FOLDER}", exist_ok=True)
    files = iter(files)
    while batch := dict(islice(files, WRITE_BATCH)):
        content = {f"{root}/{name}": data for name, data in batch.items()}
        with_retries(functools.partial(fs.pipe, content))
