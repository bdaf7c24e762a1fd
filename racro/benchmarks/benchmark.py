"""What a benchmark is: where its questions are, how a row of it becomes a Question, how it is scored.

Reads a Hugging Face dataset, a local copy of one, or the folder that the authors publish on GitHub. Not the wording of
any benchmark (each has its own file here) and not the grading of answers (`racro.grading`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import fsspec

from racro import grading
from racro.benchmarks.metrics import Graded, Scores
from racro.golds import LETTERS, BadGold, Gold
from racro.problems import MAX_DETAIL, in_batches, write_files
from racro.prompts import IMAGE_TAG
from racro.rows import INLINE_FOLDER, Files, Unusable, image_ref, inline_ref
from racro.schema import DroppedRow, ImageRef, Label, Question
from racro.sources import BadSource, Row, Source, open_source


class Part(NamedTuple):
    """One table of a benchmark."""

    split: str
    """Of the Hugging Face dataset."""
    files: tuple[str, ...] = ()
    """Where the authors' folder may have the same rows as json or jsonl."""


class Draft(NamedTuple):
    """A row as its benchmark understands it, its images not looked at."""

    uid: str
    question: str
    gold: Gold
    images: Sequence[Any]
    """A path, bytes or a Hugging Face image for each, in the order of their placeholders."""
    labels: Sequence[tuple[str, Any]]
    """Name and value, or several values; None: the row has no such property."""
    category: str
    family: str | None = None
    part: str | None = None


class Loaded(NamedTuple):
    """The questions of a benchmark."""

    questions: tuple[Question, ...]
    """Families stand together."""
    dropped: tuple[DroppedRow, ...]


@dataclass(frozen=True)
class Benchmark:
    """One benchmark."""

    name: str
    source: str | None
    """Hugging Face id; None where the authors publish on GitHub only."""
    parts: tuple[Part, ...]
    columns: tuple[str, ...]
    """Columns that a source must have."""
    draft: Callable[[int, Row, str], Draft | None]
    """(row number, row, split) -> draft; None for a row of another part of the data set. Raises Unusable, BadGold."""
    score: Callable[[Sequence[Graded]], Scores]
    optional: tuple[str, ...] = ()
    """Columns that are read where they exist."""
    configs: tuple[str, ...] = ()
    """Configurations of the Hugging Face dataset that make it up."""

    def read(self, source: str | None, folder: str) -> Loaded:
        """All questions of `source` (the published dataset when None).

        Every image is decoded once, to see that it can be; images without a file are written to `folder`/images.
        Every gold answer is graded against itself. Raises BadSource.
        """
        source = source or self.source
        if source is None:
            raise BadSource(f"{self.name} is on no hub; name the folder of its authors: {self.name}=FOLDER")
        questions: dict[str, Question] = {}
        dropped: list[DroppedRow] = []
        for split, table in self._tables(source):
            for number, found in enumerate(self._questions(table, split, folder)):
                if isinstance(found, Question) and found.uid in questions:
                    found = Unusable("duplicate uid", found.uid)
                if isinstance(found, Question):
                    questions[found.uid] = found
                elif found is not None:
                    detail = " ".join(found.detail.split())[:MAX_DETAIL]
                    dropped.append(DroppedRow(source=table.name, row=number, reason=found.reason, detail=detail))
        if not questions:
            why = f"; the first row: {dropped[0].reason}: {dropped[0].detail}" if dropped else ""
            raise BadSource(f"{source} holds no question of {self.name}{why}")
        return Loaded(tuple(_together(questions.values())), tuple(dropped))

    def _tables(self, source: str) -> Iterator[tuple[str, Source]]:
        """Split and table of every part: the authors' files where the folder has them, else the hub's."""
        fs, path = fsspec.core.url_to_fs(source)
        found = [(part.split, file) for part in self.parts for file in part.files if fs.exists(f"{path}/{file}")]
        if found:
            for split, file in found:
                yield split, open_source(f"{source.rstrip('/')}/{file}", split)
        else:
            for part in self.parts:
                yield part.split, open_source(source, part.split, self.configs)

    def _questions(self, table: Source, split: str, folder: str) -> Iterator[Question | Unusable | None]:
        """A question, or what is wrong, for every row; None for a row that is not of this benchmark."""
        if missing := [column for column in self.columns if column not in table.columns]:
            there = ", ".join(table.columns) or "none at all"
            raise BadSource(f"{table.name} is not {self.name}: no column {missing[0]!r} among {there}")
        files: Files = {}

        def check(numbered: tuple[int, Row]) -> tuple[Question, dict[str, bytes]] | Unusable | None:
            try:
                draft = self.draft(*numbered, split)
                return draft and self._checked(draft, table.base, files)
            except (Unusable, BadGold) as error:
                return Unusable(error.reason, error.detail)

        columns = [column for column in (*self.columns, *self.optional) if column in table.columns]
        written: set[str] = set()
        for found in in_batches(check, enumerate(table.rows(columns))):
            if not isinstance(found, tuple):
                yield found
                continue
            question, inline = found
            write_files([(name, data) for name, data in inline.items() if name not in written], folder)
            written.update(inline)
            yield question

    def _checked(self, draft: Draft, base: str | None, files: Files) -> tuple[Question, dict[str, bytes]]:
        """The question of a draft, and the images that it brings along. Raises Unusable."""
        if not draft.question.replace(IMAGE_TAG, "").strip():
            raise Unusable("empty question", draft.uid)
        if not grading.canary(draft.gold):
            raise Unusable("gold is not equal to itself", f"{draft.uid}: {draft.gold.answer!r}")
        if not draft.images:
            raise Unusable("missing image", f"{draft.uid} shows none")
        if (tags := draft.question.count(IMAGE_TAG)) not in (0, len(draft.images)):
            raise Unusable("placeholders do not match images", f"{tags} {IMAGE_TAG} for {len(draft.images)} images")
        inline: dict[str, bytes] = {}
        refs = [_image(item, base, files, inline) for item in draft.images]
        gold = draft.gold
        question = Question(
            uid=draft.uid,
            question=draft.question.strip(),
            **gold._asdict(),
            category=draft.category,
            images=tuple(refs),
            scene=None,
            benchmark=self.name,
            family=draft.family,
            part=draft.part,
            labels=tuple(_labels(draft.labels)),
        )
        return question, inline


def _image(item: Any, base: str | None, files: Files, inline: dict[str, bytes]) -> ImageRef:
    if isinstance(item, dict):
        item = item.get("bytes") or item.get("path")
    if isinstance(item, bytes):
        ref = image_ref(item, base, files)
        inline[ref.path] = item
        return ref
    if not item:
        raise Unusable("missing image", "an empty cell")
    return image_ref(_place(item, base), base, files)


def _place(path: str, base: str | None) -> str:
    """Authors' tables name images from their own folder, from its parent, or from a folder `images` in it."""
    if base is None or "://" in path or path.startswith("/"):
        return path
    fs, _ = fsspec.core.url_to_fs(base)
    places = [f"{base}/{path}", f"{base}/images/{path}", f"{base.rpartition('/')[0]}/{path}"]
    return next((place for place in places if fs.exists(place)), places[0])


def _labels(labels: Sequence[tuple[str, Any]]) -> Iterator[Label]:
    for name, value in labels:
        for one in value if isinstance(value, list | tuple) else [value]:
            if one is not None:
                yield Label(name=name, value=str(one))


def _together(questions: Iterator[Question] | Any) -> list[Question]:
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.family or question.uid, []).append(question)
    return [question for group in groups.values() for question in group]


def lettered(answer: Any, options: Sequence[Any]) -> Gold:
    """The gold of a question whose answer is the letter of an option. Raises BadGold."""
    letter = str(answer or "").strip()
    if len(letter) != 1 or letter not in LETTERS[: len(options)]:
        raise BadGold("choice answer names no option", f"{answer!r} is no letter of {list(options)}")
    return Gold(letter, "choice", tuple(map(str, options)))


def options_text(options: Sequence[Any]) -> str:
    """Options, one a line: (A) 12."""
    return "\n".join(f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))
