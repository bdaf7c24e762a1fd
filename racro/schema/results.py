"""Rows of an evaluation: texts that models wrote, graded answers, scores."""

from __future__ import annotations

from typing import Literal

from racro.schema.problems import AnswerKind
from racro.schema.rollouts import FinishReason, Verdict
from racro.schema.row import Row
from racro.schema.shares import Share

Mode = Literal["caption", "direct", "joint", "text", "vote", "best", "clues", "shots", "check"]
"""How a question is answered in an evaluation. `caption`: the reasoner answers from the caption alone, as in training.
`direct`: the captioner answers. `joint`: the reasoner answers from caption and captioner's answer, as in the paper.
`text`: the reasoner answers from the question alone, which shows how much its wording gives away. The other five are
built around `caption`. `vote`: the majority of the answers from several sampled captions. `best`: the answer from the
one of them that a reward likes best. `clues`: the captioner first answers sub-questions of the reasoner. `shots`:
solved examples come before the question. `check`: where the reasoner says that the caption is not enough, the captioner
writes a second one.
"""


class ModelOutput(Row):
    """A text that a model wrote about one question."""

    uid: str
    sample: int
    """Number of the sample, 0 to k - 1."""
    prompt: str
    """Chat messages as JSON; image parts refer to the question's images, in order."""
    text: str
    tokens: int
    finish_reason: FinishReason
    error: str | None
    """Why the model was not called; such rows are unscored, and `finish_reason` is `deadline`."""


class Result(Row):
    """One graded answer to one question of an evaluation, with all prompts and texts behind it."""

    benchmark: str
    uid: str
    category: str
    question: str
    answer: str
    kind: AnswerKind
    mode: Mode
    captioner: str | None
    """None if no captioner was asked."""
    reasoner: str | None
    """None if the captioner answered."""
    sample: int
    caption_prompt: str | None
    caption: str | None
    attempt_prompt: str | None
    attempt: str | None
    """What else the captioner wrote for the reasoner: in mode `clues` the answered sub-questions, in `check` the second
    caption, empty where none was needed, in all others its own answer."""
    prompt: str
    response: str
    tokens: int
    """Number of tokens of the response."""
    finish_reason: FinishReason
    extracted: str | None
    """The answer found in the response, as written there; None if none was found."""
    verdict: Verdict
    error: str | None
    """Why there is no response; None if there is one."""


class Shot(Row):
    """A solved example: a training problem with a caption."""

    uid: str
    question: str
    caption: str
    answer: str
    """The gold answer."""


class Metric(Share):
    """A share with a name."""

    name: str
    """ "accuracy", or of a part: "accuracy / subject / algebra"."""


class Entry(Row):
    """Captioner x reasoner x benchmark x mode, scored."""

    benchmark: str
    mode: Mode
    captioner: str | None
    reasoner: str | None
    questions: int
    samples: int
    """k, the number of answers per question."""
    metrics: tuple[Metric, ...]
    """The benchmark's metrics of the first answers, headline first; if there are several answers per question, then
    pass@k and majority. Empty if nothing was scored."""
    correct: int
    wrong: int
    unparsed: int
    truncated: int
    failed: int
    """Number of failed answers. They are unscored and part of no metric."""
    families: int
    incomplete: int
    """See `racro.benchmarks.metrics.Scores`."""

    @property
    def headline(self) -> Metric | None:
        """The first metric; None if nothing was scored."""
        return self.metrics[0] if self.metrics else None
