"""The nouns of RACRO. Reading starts here.

Rows (what stands in a parquet file) and handles (what travels between stages: where a table is, how many rows, its
digest). No logic, no torch, no I/O. Everybody imports this module; it imports nothing of the project.

Shapes, used in comments everywhere: P problems, G captions per problem (the group), T tokens of a caption.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict


class Row(BaseModel):
    """One row of a table. Frozen; unknown fields are an error, so a foreign file cannot pass for ours."""

    model_config = ConfigDict(frozen=True, extra="forbid")


AnswerKind = Literal["integer", "float", "choice", "choices", "yesno", "text", "expression", "list", "set"]
"""How a gold answer is compared: a whole number; a decimal number; a choice letter; a set of choice letters ("A, C");
yes or no; a word or short text; an expression, equation or interval; several values in order; several in any order.
"""

FinishReason = Literal["stop", "length", "deadline"]
"""Why an engine stopped: the model said so, the token limit, or the time limit of the request."""


class Verdict(StrEnum):
    """What became of a reasoner's output. Only `correct` and `wrong` say something about the caption."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSED = "unparsed"
    """The reasoner finished, but no answer was found in what it wrote."""
    TRUNCATED = "truncated"
    """The reasoner hit its token limit before it gave an answer."""
    FAILED = "failed"
    """The reasoner or the grader broke or ran out of time: nothing is known about the caption."""


class ImageRef(Row):
    """An image by path and content hash; the pixels are decoded late, by `racro.images.open_image`."""

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


class Rollout(Row):
    """One sampled caption of one problem."""

    uid: str
    sample: int
    """0 .. G-1 within the group."""
    policy: str
    """Digest of the policy that wrote the caption."""
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    """T token ids, the end-of-text token included when the caption finished."""
    logprobs: tuple[float, ...]
    """T natural-log probabilities under the sampling distribution."""
    finish_reason: FinishReason
    caption: str


class ScoredRollout(Rollout):
    """A rollout after the frozen reasoner has answered from its caption."""

    response: str
    verdict: Verdict
    describes: bool | None
    """Does the caption describe the image (RAPID's check)? None when it was not asked."""
    reward: float | None
    """None = unscored: it takes no part in the baseline or the loss."""


class Judgement(Row):
    """One held-out problem answered from a greedy caption."""

    uid: str
    category: str
    question: str
    answer: str
    caption: str
    response: str
    verdict: Verdict
    facts_stated: int | None
    """Statements about the image in the caption; None where no scene is known."""
    facts_true: int | None
    states_asked: bool | None
    """Does the caption state, truthfully, every fact that the question asks for?"""
    leaks: bool | None
    """Does the caption announce an answer instead of only describing?"""


Mode = Literal["caption", "direct", "joint", "text"]
"""How a question is answered in an evaluation. `caption`: by the reasoner from the caption alone, as in training;
`direct`: by the captioner itself; `joint`: by the reasoner from caption and the captioner's answer, as in the paper;
`text`: by the reasoner without the image, which shows what a benchmark's wording gives away.
"""


class Writing(Row):
    """What a model wrote about one question."""

    uid: str
    sample: int
    """0 .. k-1 of one prompt."""
    prompt: str
    """Chat messages as JSON; image parts stand for the question's images, in order."""
    text: str
    tokens: int
    finish_reason: FinishReason
    error: str | None
    """Why nothing was asked; `finish_reason` is then `deadline`, for nothing is known about the model."""


class Result(Row):
    """One graded answer to one question of an evaluation, with everything that led to it."""

    benchmark: str
    uid: str
    category: str
    question: str
    answer: str
    kind: AnswerKind
    mode: Mode
    captioner: str | None
    """None where no captioner was asked."""
    reasoner: str | None
    """None where the captioner answers itself."""
    sample: int
    caption_prompt: str | None
    caption: str | None
    tentative_prompt: str | None
    tentative: str | None
    prompt: str
    response: str
    tokens: int
    """Of the response."""
    finish_reason: FinishReason
    extracted: str | None
    """The answer that was found in the response, as written."""
    verdict: Verdict
    error: str | None
    """Why there is no response."""


class Metric(Row):
    """A share with its standard error and the number of cases behind it."""

    name: str
    """ "accuracy", or of a part: "accuracy / subject / algebra"."""
    value: float
    """0 to 1."""
    stderr: float
    n: int


class Entry(Row):
    """Captioner x reasoner x benchmark x mode, scored."""

    benchmark: str
    mode: Mode
    captioner: str | None
    reasoner: str | None
    questions: int
    samples: int
    """k, answers to a question."""
    metrics: tuple[Metric, ...]
    """The benchmark's own, headline first, of the first answers; then, with several, pass@k and majority. Empty where
    nothing was scored."""
    correct: int
    wrong: int
    unparsed: int
    truncated: int
    failed: int
    """Verdicts on all answers. Failed ones are unscored: in no metric."""
    families: int
    incomplete: int
    """See `racro.benchmarks.metrics.Scores`."""

    @property
    def headline(self) -> Metric | None:
        """None where nothing was scored."""
        return self.metrics[0] if self.metrics else None


class Handle(BaseModel):
    """Where an artifact is and what it holds. Small enough to travel as a task's result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    """Folder of the artifact: its shards or files, and `record.json`, written last."""
    rows: int
    digest: str
    """Digest of the content (never of its place): the identity of everything computed from it."""


class ProblemTable(Handle):
    """Rows: Problem."""

    dropped: int = 0


class QuestionTable(Handle):
    """Rows: Question."""

    dropped: int = 0


class FingerprintTable(Handle):
    """Rows: Fingerprint, of one benchmark."""


class QuestionPart(Handle):
    """Consecutive rows of a table of questions or problems, at its uri; the unit that an evaluation computes.

    The digest covers the rows and their images' content, not where the images lie.
    """

    start: int


class WritingTable(Handle):
    """Rows: Writing, k to a question, in the order of the part's questions."""


class ResultTable(Handle):
    """Rows: Result, k to a question, of one benchmark, mode and reasoner."""


class EntryTable(Handle):
    """Rows: Entry, one of them."""


class RolloutTable(Handle):
    """Rows: Rollout, P x G of them, grouped by problem."""


class ScoredTable(Handle):
    """Rows: ScoredRollout, in the order of the rollouts."""


class Policy(Handle):
    """A captioner: a Hugging Face model folder. `rows` is 0.

    The digest covers the weights, the configuration and the processor.
    """

    step: int = 0
    """Optimizer steps taken since the initial policy."""
    trainer_digest: str | None = None
    """Digest of optimizer, schedule and RNG state; None for the initial policy."""


CHAMPION = "champion"
"""Alias of the best policy so far."""


class FrozenModel(Handle):
    """The reasoner: a Hugging Face model folder. `rows` is 0."""


class Evaluation(Handle):
    """Rows: Judgement."""

    policy: str
    """Digest of the evaluated policy."""


class Parity(Handle):
    """Engine and trainer were compared and agree. `rows` is the number of captions compared; there is no table."""
