"""Rows of an evaluation: what models wrote, graded answers, scores."""

from __future__ import annotations

from typing import Literal

from racro.schema.problems import AnswerKind
from racro.schema.rollouts import FinishReason, Verdict
from racro.schema.row import Row
from racro.schema.shares import Share

Mode = Literal["caption", "direct", "joint", "text"]
"""How a question is answered in an evaluation. `caption`: by the reasoner from the caption alone, as in training;
`direct`: by the captioner itself; `joint`: by the reasoner from caption and the captioner's answer, as in the paper;
`text`: by the reasoner without the image, which shows what a benchmark's wording gives away.
"""


class ModelOutput(Row):
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
    """Why the model was not asked. `finish_reason` is then `deadline`: nothing is known about the model."""


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
