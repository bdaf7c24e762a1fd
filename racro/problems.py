"""Rows of a data source -> Problems: every row checked, every image decoded once, what is unusable counted by reason.

Not the reading of files (`racro.sources`) nor of one row (`racro.rows`). Writes the images that have no file of their
own into the artifact's folder; the caller writes the table and, last, the record. Called by `tasks.prepare`.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import fsspec
from fsspec.implementations.local import LocalFileSystem

from racro import config, sources
from racro.embedded import world
from racro.errors import BadInput
from racro.identity import digest
from racro.rows import INLINE_FOLDER, Files, Unusable, image_items, inline_ref, read_row
from racro.schema import DroppedRow, Problem
from racro.sources import BadSource, Row, Source

WRITE_BATCH = 32
"""Images that are written at a time."""
READERS = 4
"""Threads that fetch and decode images."""
MAX_DETAIL = 300
"""Characters; a detail may quote a whole cell."""


class TooManyBadRows(BadInput):
    """More than `problems.max_bad_share` of a source is unusable. The message counts the reasons."""


@dataclass(frozen=True)
class Prepared:
    """The problems of one split."""

    problems: tuple[Problem, ...]
    dropped: tuple[DroppedRow, ...]
    """Of the whole source, whichever split was asked for: a row without an image belongs to neither."""

    def digest(self) -> str:
        """Digest of the problems wherever their images lie: image paths are left out, their hashes are not."""
        return digest([p.model_copy(update={"images": [i.sha256 for i in p.images]}) for p in self.problems])


def load(problems: config.Problems, folder: str, seed: int, heldout: int | None = None) -> Prepared:
    """The training problems, or with `heldout` that many held-out ones (all there are, when there are fewer).

    Images that come without a file are written under `folder`/images. The same arguments give the same problems; a
    larger `heldout` extends a smaller one. Raises BadSource, TooManyBadRows.
    """
    if isinstance(problems, config.EmbeddedProblems):
        return _embedded(problems, folder, seed, heldout)
    location = problems.source if heldout is None else problems.heldout_source or problems.source
    source = sources.open_source(location, problems.split)
    kept, dropped = _check_rows(source, problems)
    if problems.heldout_source is None:
        groups = _groups([[image.sha256 for image in problem.images] for _, problem in kept])
        held = [is_heldout(group, seed, problems.heldout_share) for group in groups]
        kept = [row for row, h in zip(kept, held, strict=True) if h == (heldout is not None)]
    if not kept:
        part, remedy = ("held-out", "or name a problems.heldout_source") if heldout is not None else ("training", "")
        raise BadSource(f"{source.name}: no usable row falls to the {part} part; add rows {remedy}".rstrip())
    if heldout is not None:
        kept = sorted(kept, key=lambda row: _rank(row[1], seed))[:heldout]
    _write_inline_images(source, problems.columns.image, kept, folder)
    return Prepared(tuple(problem for _, problem in kept), dropped)


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
    return Prepared(converted, ())


# --- the split --------------------------------------------------------------------------------------------------------


def is_heldout(group: str, seed: int, share: float) -> bool:
    """Does a group of rows that share images belong to the held-out part? Depends on nothing but the arguments."""
    hashed = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(hashed[:8], "big") < share * 2**64


def _groups(images_P: Sequence[Sequence[str]]) -> list[str]:
    """For each row the smallest hash among all images that are tied to it by rows that show several."""
    parent: dict[str, str] = {}

    def root(image: str) -> str:
        while (above := parent.setdefault(image, image)) != image:
            parent[image] = image = parent[above]
        return image

    for shown in images_P:
        for image in shown:
            low, high = sorted((root(shown[0]), root(image)))
            parent[high] = low
    return [root(shown[0]) for shown in images_P]


def _rank(problem: Problem, seed: int) -> str:
    """Sorts into a random order that depends on content alone, neither on the order of rows nor on their numbers."""
    return digest([seed, problem.question, problem.answer, [image.sha256 for image in problem.images]])


# --- rows -------------------------------------------------------------------------------------------------------------

Kept = list[tuple[int, Problem]]
"""Usable rows with their numbers in the source."""


def _check_rows(source: Source, problems: config.TableProblems) -> tuple[Kept, tuple[DroppedRow, ...]]:
    columns = _require_columns(source, problems.columns)
    kept: Kept = []
    dropped: list[DroppedRow] = []
    seen: set[str] = set()
    files: Files = {}

    def check(numbered: tuple[int, Row]) -> Problem | Unusable:
        try:
            return read_row(*numbered, problems.columns, source.base, files)
        except Unusable as error:
            return error

    for number, result in enumerate(in_batches(check, enumerate(source.rows(columns)))):
        if isinstance(result, Problem) and result.uid in seen:
            result = Unusable("duplicate uid", result.uid)
        if isinstance(result, Problem):
            seen.add(result.uid)
            kept.append((number, result))
        else:
            detail = " ".join(result.detail.split())[:MAX_DETAIL]
            dropped.append(DroppedRow(source=source.name, row=number, reason=result.reason, detail=detail))
    total = len(kept) + len(dropped)
    if total == 0:
        raise BadSource(f"{source.name} holds no rows; correct problems.source")
    if len(dropped) > problems.max_bad_share * total:
        counts = ", ".join(f"{reason} {n}" for reason, n in Counter(d.reason for d in dropped).most_common())
        first = f"row {dropped[0].row}: {dropped[0].reason}: {dropped[0].detail}"
        raise TooManyBadRows(
            f"{source.name}: {len(dropped)} of {total} rows are unusable ({counts}), more than "
            f"problems.max_bad_share = {problems.max_bad_share:g} allows; the first is {first}"
        )
    return kept, tuple(dropped)


def _require_columns(source: Source, columns: config.Columns) -> list[str]:
    if not source.columns:
        raise BadSource(f"{source.name} holds no rows; correct problems.source")
    wanted = {key: name for key, name in columns.model_dump().items() if name is not None}
    for key, name in wanted.items():
        if name not in source.columns:
            there = ", ".join(source.columns) or "none at all"
            raise BadSource(f"{source.name} has no column {name!r}; set problems.columns.{key} to one of: {there}")
    return list(dict.fromkeys(wanted.values()))


def in_batches(
    check: Callable[[tuple[int, Row]], Problem | Unusable], rows: Iterable[tuple[int, Row]]
) -> Iterator[Problem | Unusable]:
    """`check` over rows on a few threads, in order, a batch in memory at a time."""
    rows = iter(rows)
    with ThreadPoolExecutor(READERS) as pool:
        while batch := list(islice(rows, sources.BATCH)):
            yield from pool.map(check, batch)


# --- images -----------------------------------------------------------------------------------------------------------


def _write_inline_images(source: Source, column: str, kept: Kept, folder: str) -> None:
    """Read the source once more and write the images that have no file, of the rows that are kept."""
    wanted = {number: {i.path for i in p.images if i.path.startswith(f"{INLINE_FOLDER}/")} for number, p in kept}
    missing = set().union(*wanted.values())
    if not missing:
        return

    def found() -> Iterator[tuple[str, bytes]]:
        for number, row in enumerate(source.rows([column])):
            for item in image_items(row[column]) if wanted.get(number) else ():
                if isinstance(item, bytes) and (path := inline_ref(item).path) in missing:
                    missing.discard(path)
                    yield path, item

    write_files(found(), folder)
    if missing:
        raise BadSource(f"{source.name} changed while it was read; run again")


def write_files(files: Iterable[tuple[str, bytes]], folder: str) -> None:
    """Write images in bulk. No care for a kill half way: without the record they are leftovers."""
    fs, root = fsspec.core.url_to_fs(folder)
    if isinstance(fs, LocalFileSystem):  # object stores have no folders to make
        fs.makedirs(f"{root}/{INLINE_FOLDER}", exist_ok=True)
    files = iter(files)
    while batch := dict(islice(files, WRITE_BATCH)):
        fs.pipe({f"{root}/{name}": data for name, data in batch.items()})
