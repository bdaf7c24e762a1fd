"""The class of all benchmarks: where questions are, how a row becomes a Question, how answers are scored.

Reads a Hugging Face dataset, a local copy of one, or the folder that the authors publish on GitHub. Not the wording of
a particular benchmark (one file each) and not the grading of answers (`racro.grading`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from racro.benchmarks.metrics import Graded, Scores
from racro.data.cells import BadGold, Unusable
from racro.data.options import LETTERS
from racro.data.problems import in_batches, write_files
from racro.data.rows import Draft, Files, check, image_items
from racro.data.sources import BadSource, Row, Source, open_source
from racro.prompts import IMAGE_TAG
from racro.schema import DroppedRow, Gold, Label, Question
from racro.storage.files import opened


class Part(NamedTuple):
    """One table of a benchmark."""

    split: str
    """Split of the Hugging Face dataset."""
    files: tuple[str, ...] = ()
    """Files in the authors' folder that may hold the same rows as json or jsonl."""


class Item(NamedTuple):
    """A row after its benchmark has interpreted it."""

    draft: Draft
    labels: Sequence[tuple[str, Any]] = ()
    """Pairs of name and value; a value may be a list of several, or None if the row has no such property."""
    family: str | None = None
    part: str | None = None


class Loaded(NamedTuple):
    """The questions of a benchmark."""

    questions: tuple[Question, ...]
    """Questions of one family follow each other."""
    dropped: tuple[DroppedRow, ...]


@dataclass(frozen=True)
class Benchmark:
    """One benchmark."""

    name: str
    source: str | None
    """Hugging Face id; None if the authors publish on GitHub only."""
    parts: tuple[Part, ...]
    columns: tuple[str, ...]
    """Columns that a source must have."""
    read_row: Callable[[int, Row, str], Item | None]
    """(row number, row, split) -> item; None for a row that belongs to another part. Raises Unusable, BadGold."""
    score: Callable[[Sequence[Graded]], Scores]
    nullable: tuple[str, ...] = ()
    """Those of `columns` that may be empty in a row."""
    optional: tuple[str, ...] = ()
    """Columns that are read if they exist."""
    configs: tuple[str, ...] = ()
    """Configurations of the Hugging Face dataset that are read, one after the other."""

    def read(self, source: str | None, folder: str) -> Loaded:
        """All questions of `source` (None: of the published dataset).

        Every image is decoded once, to check it; images without a file are written to `folder`/images. Every gold
        answer is graded against itself. Raises BadSource.
        """
        source = source or self.source
        if source is None:
            raise BadSource(f"{self.name} is not on Hugging Face; name the folder of its authors: {self.name}=FOLDER")
        questions: dict[str, Question] = {}
        dropped: list[DroppedRow] = []
        for split, table in self._tables(source):
            for number, found in enumerate(self._questions(table, split, folder)):
                if isinstance(found, Question) and found.uid in questions:
                    found = Unusable("duplicate uid", found.uid)
                if isinstance(found, Question):
                    questions[found.uid] = found
                elif found is not None:
                    dropped.append(found.row(table.name, number))
        if not questions:
            why = f"; the first row: {dropped[0].reason}: {dropped[0].detail}" if dropped else ""
            raise BadSource(f"{source} holds no question of {self.name}{why}")
        return Loaded(tuple(_together(questions.values())), tuple(dropped))

    def _tables(self, source: str) -> Iterator[tuple[str, Source]]:
        """Split and table of every part: the authors' files if the folder has them, else those of Hugging Face."""
        if len(self.parts) > 1 and source.endswith((".parquet", ".jsonl", ".json")):
            raise BadSource(f"{source} is one part of {self.name}; name the folder that holds all parts")
        fs, path = opened(source)
        found = [(part.split, file) for part in self.parts for file in part.files if fs.exists(f"{path}/{file}")]
        if found:
            for split, file in found:
                yield split, open_source(f"{source.rstrip('/')}/{file}", split)
        else:
            for part in self.parts:
                yield part.split, open_source(source, part.split, self.configs)

    def _questions(self, table: Source, split: str, folder: str) -> Iterator[Question | Unusable | None]:
        """For every row a question, or what is wrong with it, or None if it does not belong to this benchmark."""
        if missing := [column for column in self.columns if column not in table.columns]:
            there = ", ".join(table.columns) or "none at all"
            raise BadSource(f"{table.name} is not {self.name}: no column {missing[0]!r} among {there}")
        table.require_single(self.columns)
        files = Files()

        def convert(numbered: tuple[int, Row]) -> tuple[Question, dict[str, bytes]] | Unusable | None:
            empty = [c for c in self.columns if numbered[1][c] is None and c not in self.nullable]
            if empty:
                return Unusable("missing value", f"column {empty[0]!r} is empty")
            try:
                item = self.read_row(*numbered, split)
                return item and self._question(item, table.base, files)
            except Unusable as error:
                return error

        columns = [column for column in (*self.columns, *self.optional) if column in table.columns]
        written: set[str] = set()
        for found in in_batches(convert, enumerate(table.rows(columns))):
            if not isinstance(found, tuple):
                yield found
                continue
            question, inline = found
            if new := {name: data for name, data in inline.items() if name not in written}:
                write_files(new.items(), folder)
                written.update(new)
            yield question

    def _question(self, item: Item, base: str | None, files: Files) -> tuple[Question, dict[str, bytes]]:
        """The question of a row, and the images that are stored in the row. Raises Unusable."""
        images = [_image(cell, base) for cell in item.draft.images]
        problem = check(item.draft._replace(question=item.draft.question.strip(), images=images), base, files)
        question = Question(
            **dict(problem),
            benchmark=self.name,
            family=item.family,
            part=item.part,
            labels=labels_of(item.labels),
        )
        inline = zip(problem.images, images, strict=True)
        return question, {ref.path: data for ref, data in inline if isinstance(data, bytes)}


def _image(cell: Any, base: str | None) -> Any:
    """The one image of a cell: bytes, or a path relative to `base`."""
    (item,) = image_items(cell) or [None]
    return _place(item, base) if isinstance(item, str) else item


def _place(path: str, base: str | None) -> str:
    """The path of an image, which authors name relative to the table's folder, its parent, or `images` in it."""
    if base is None or "://" in path or path.startswith("/"):
        return path
    fs, _ = opened(base)
    places = [f"{base}/{path}", f"{base}/images/{path}", f"{base.rpartition('/')[0]}/{path}"]
    return next((place for place in places if fs.exists(place)), places[0])


def labels_of(labels: Sequence[tuple[str, Any]]) -> tuple[Label, ...]:
    """Labels from names and values; a value may be a list of several, or None."""
    several = ((name, value if isinstance(value, list | tuple) else [value]) for name, value in labels)
    return tuple(Label(name=name, value=str(one)) for name, values in several for one in values if one is not None)


def _together(questions: Iterable[Question]) -> list[Question]:
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.family or question.uid, []).append(question)
    return [question for group in groups.values() for question in group]


def lettered(answer: Any, options: Sequence[Any]) -> Gold:
    """The gold answer of a question whose answer is an option's letter. Raises BadGold."""
    letter = str(answer or "").strip()
    if len(letter) != 1 or letter not in LETTERS[: len(options)]:
        raise BadGold("choice answer names no option", f"{answer!r} is not the letter of one of {list(options)}")
    return Gold(letter, "choice", tuple(map(str, options)))


PLACEHOLDER = re.compile(r"<image ?(\d+)>")


def place_images(question: str, images: Mapping[int, Any]) -> tuple[str, list[Any]]:
    """A question with placeholders `<image 2>` or `<image2>`, rewritten for this project, and its images in order.

    The first mention of an image becomes "image 2 <image>" (only `<image>` if there is one image), a later mention
    "image 2": the reasoner, which sees no images, can still read which one an option means. Images that the text does
    not mention come first. Raises Unusable if a mentioned image is missing.
    """
    order: list[int] = []

    def replace(match: re.Match[str]) -> str:
        number = int(match[1])
        if number not in images:
            raise Unusable("placeholders do not match images", f"{match[0]} is not among images {[*images]}")
        if number in order:
            return f"image {number}"
        order.append(number)
        return IMAGE_TAG if len(images) == 1 else f"image {number} {IMAGE_TAG}"

    text = PLACEHOLDER.sub(replace, question)
    unmentioned = [number for number in images if number not in order]
    return IMAGE_TAG * len(unmentioned) * bool(order) + text, [images[number] for number in (*unmentioned, *order)]
