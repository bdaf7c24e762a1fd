"""Rows about problems: questions, images, gold answers, dropped rows, overlaps with benchmarks."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from racro.schema.row import NeutralDefault, Row

AnswerKind = Literal["integer", "float", "choice", "choices", "yesno", "text", "expression", "list", "set"]
"""How an answer is compared with the gold answer. In order: a whole number; a decimal number; an option's letter; a set
of letters ("A, C"); yes or no; a word or short text; an expression, equation or interval; several values whose
order matters; several values in any order.
"""


class ImageRef(Row):
    """An image by path and content hash; `racro.data.images.open_image` decodes its pixels when they are needed."""

    path: str
    """Absolute path or URI, or a path relative to the folder of the row's table."""
    sha256: str
    """Hex digest of the file's bytes; checked when the image is decoded."""


class ImageFact(Row):
    """Something that is true of a problem's images, and that a caption may state."""

    text: str
    weight: float = 1.0


class ChoiceQuestion(Row):
    """A multiple-choice question about a problem's images, by which captions are examined."""

    question: str
    options: tuple[str, ...]
    answer: int
    """Number of the right option, from 0."""


class Problem(Row):
    """A question about one or more images with its gold answer."""

    uid: str
    question: str
    """May hold `<image>` placeholders; without them, all images precede the text."""
    answer: str
    """The gold answer."""
    kind: AnswerKind
    category: str
    """For accuracy by category."""
    choices: tuple[str, ...]
    """Texts of the options in the order of their letters; empty unless `kind` is `choice` or `choices`."""
    images: tuple[ImageRef, ...]
    scene: str | None
    """JSON of the scene behind synthetic images (`racro.embedded.world`); None for real data."""
    precision: int | None = None
    """Digits after the decimal point to which a `float` is asked for and compared; None: those of the gold answer."""
    tolerance: float | None = None
    """Largest allowed absolute difference of a `float`, used instead of `precision`."""
    unit: str | None = None
    """Unit of the answer, if the question asks for one; outputs may name it or leave it out."""
    facts: Annotated[tuple[ImageFact, ...], NeutralDefault()] = ()
    """For the reward `facts`; empty: none are known, or the scene tells them."""
    mcq: Annotated[tuple[ChoiceQuestion, ...], NeutralDefault()] = ()
    """For the reward `mcq`; empty: there are none, or the scene tells them."""
    reference: Annotated[str, NeutralDefault()] = ""
    """A caption that is known to be good, for `rollout.references`; empty: there is none, or the scene tells it."""


class Gold(NamedTuple):
    """A gold answer as the grader reads it; the fields are those of `Problem`."""

    answer: str
    kind: AnswerKind
    choices: tuple[str, ...] = ()
    precision: int | None = None
    tolerance: float | None = None
    unit: str | None = None
    question: str = ""
    """Used only to recognise a yes/no answer that restates the question."""

    @classmethod
    def of(cls, problem: Problem) -> Gold:
        """The gold answer of a problem."""
        return cls(*(getattr(problem, field) for field in cls._fields))


class Label(Row):
    """A property by which the authors of a benchmark publish sub-scores: ("task", "geometry problem solving")."""

    name: str
    value: str


class Question(Problem):
    """A problem of a benchmark."""

    benchmark: str
    family: str | None
    """Name shared by questions that are scored together: the steps of a problem in WeMath, its variants in DynaMath."""
    part: str | None
    """Which member of the family this is."""
    labels: tuple[Label, ...]
    """The same name may occur several times (a question can have several skills)."""


class DroppedRow(Row):
    """A source row that did not become a problem, and why."""

    source: str
    row: int
    reason: str
    detail: str
    deliberate: bool = False
    """True: removed by a filter of the recipe, or because it overlaps with a benchmark. False: the row is defective."""


class Fingerprint(Row):
    """Identifies a benchmark question when it reappears in training data."""

    benchmark: str
    uid: str
    sha256: tuple[str, ...]
    """Digest of each image's bytes."""
    look: tuple[str, ...]
    """Perceptual hash of each image's pixels, hex."""
    text: str
    """The question in normal form; empty if it is too short to identify this question."""


class Overlap(Row):
    """A training row that repeats a question or an image of a benchmark."""

    row: int
    uid: str
    benchmark: str
    question: str
    """uid of the question in the benchmark."""
    by: Literal["image", "look", "text"]
    """What they share: the same file, an image that looks the same, or the same words. The first that applies."""
