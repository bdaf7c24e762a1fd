"""Rows about problems: questions, images, gold answers, and what was left out."""

from __future__ import annotations

from typing import Literal, NamedTuple

from racro.schema.row import Row

AnswerKind = Literal["integer", "float", "choice", "choices", "yesno", "text", "expression", "list", "set"]
"""How a gold answer is compared: a whole number; a decimal number; a choice letter; a set of choice letters ("A, C");
yes or no; a word or short text; an expression, equation or interval; several values in order; several in any order.
"""


class ImageRef(Row):
    """An image by path and content hash; the pixels are decoded late, by `racro.data.images.open_image`."""

    path: str
    """Absolute path or URI; or relative, then to the folder of the table that the row stands in."""
    sha256: str
    """Hex digest of the file's bytes; checked when the image is decoded."""


class Problem(Row):
    """A question about one or more images with its gold answer."""

    uid: str
    question: str
    """May hold `<image>` placeholders; without any, all images precede the text."""
    answer: str
    kind: AnswerKind
    category: str
    """Name of the problem's family, for accuracy by category."""
    choices: tuple[str, ...]
    """Option texts in the order of their letters; empty unless `kind` is `choice` or `choices`."""
    images: tuple[ImageRef, ...]
    scene: str | None
    """JSON of the scene behind a synthetic image (see `racro.embedded.world`); None for real data."""
    precision: int | None = None
    """Digits after the point to which a `float` is asked for and compared; None: those of the gold answer."""
    tolerance: float | None = None
    """Absolute difference that a `float` may have, instead of a precision."""
    unit: str | None = None
    """Of the answer, where the question asks for one; an output may name it or leave it out."""


class Gold(NamedTuple):
    """A gold answer in the form that the grader compares with; the fields are those of `Problem`."""

    answer: str
    kind: AnswerKind
    choices: tuple[str, ...] = ()
    precision: int | None = None
    tolerance: float | None = None
    unit: str | None = None
    question: str = ""
    """Read only where an output answers a yes/no question by restating it."""

    @classmethod
    def of(cls, problem: Problem) -> Gold:
        """The gold answer of a problem."""
        return cls(*(getattr(problem, field) for field in cls._fields))


class Label(Row):
    """One property by which a benchmark's authors publish sub-scores: ("task", "geometry problem solving")."""

    name: str
    value: str


class Question(Problem):
    """A problem of a benchmark."""

    benchmark: str
    family: str | None
    """Questions that are scored together: WeMath's steps of a problem, DynaMath's variants of one."""
    part: str | None
    """Which one of its family."""
    labels: tuple[Label, ...]
    """A name may occur several times (skills)."""


class DroppedRow(Row):
    """A source row that became no problem, and why."""

    source: str
    row: int
    reason: str
    detail: str
    deliberate: bool = False
    """Left out by the recipe, by a filter or as a benchmark's; otherwise for a defect."""


class Fingerprint(Row):
    """By what a benchmark's question is known again elsewhere."""

    benchmark: str
    uid: str
    sha256: tuple[str, ...]
    """Of each image's bytes."""
    look: tuple[str, ...]
    """Perceptual hash of each image's pixels, hex."""
    text: str
    """The question's normal form; empty when it is too short to mean this question and no other."""


class Overlap(Row):
    """A training row that is, or shows, what a benchmark asks about."""

    row: int
    uid: str
    benchmark: str
    question: str
    """The question's uid in the benchmark."""
    by: Literal["image", "look", "text"]
    """The same file, pixels that look the same, or the same words; the first that holds."""
