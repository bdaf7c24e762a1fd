"""Rows of a training: captions, answers from them, rewards."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from racro.schema.problems import AnswerKind
from racro.schema.row import NeutralDefault, Row

FinishReason = Literal["stop", "length", "deadline"]
"""Why generation stopped: the model ended its text, the token limit was reached, or the time limit of the request."""


class Verdict(StrEnum):
    """Outcome of grading a reasoner's output. Only `correct` and `wrong` say something about the caption."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSED = "unparsed"
    """The reasoner finished, but its text contains no answer."""
    TRUNCATED = "truncated"
    """The reasoner reached its token limit before it gave an answer, or a thinking captioner before its caption."""
    FAILED = "failed"
    """The reasoner or the grader failed or ran out of time: nothing is known about the caption."""


class Standing(Row):
    """Where a problem stands in a curriculum. Problems about which there is nothing to say have no row."""

    uid: str
    round: int | None
    """Round of this iteration in which it is captioned, 0 or that of a refill; None: not in this iteration."""
    reward: float | None
    """Mean reward of its latest group; None: it had none yet."""
    variance: float | None
    """Variance of these rewards, with divisor n."""


class PassRate(Row):
    """How often a policy's captions of a problem led to the right answer."""

    uid: str
    rate: float | None
    """Share of right answers; None: no caption was scored."""
    scored: int
    """Number of scored captions."""


class ProfiledProblem(Row):
    """A problem with its pass rate, as a table that a recipe can name as its source."""

    uid: str
    question: str
    answer: str
    kind: AnswerKind
    category: str
    choices: tuple[str, ...]
    images: tuple[str, ...]
    """Paths or URIs."""
    pass_rate: float | None
    scored: int


class Rollout(Row):
    """One sampled caption of one problem."""

    uid: str
    sample: int
    """Number within the group, 0 to G - 1."""
    policy: str
    """Digest of the policy that wrote the caption."""
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    """T token ids, including the end-of-text token if the caption finished."""
    logprobs: tuple[float, ...]
    """T natural logarithms of probabilities under the sampling distribution; none for a reference."""
    finish_reason: FinishReason
    caption: str
    """What the reasoner reads: without the thoughts of a captioner that thinks."""
    written: Annotated[str, NeutralDefault()] = ""
    """All that a captioner that thinks wrote, with its thoughts; empty where that is the caption."""
    reference: Annotated[bool, NeutralDefault()] = False
    """A caption that is known to be good, and that no policy wrote; it joins the group of the policy that is named."""


class RewardRow(Row):
    """What one kind of reward says about one caption."""

    uid: str
    sample: int
    value: float | None
    """None: unscored."""
    detail: str
    """Why, in a few words for people."""
    response: str | None
    """What a model answered from the caption; None if none was asked."""
    verdict: Verdict | None
    """Verdict on that answer."""


class ScoredRollout(Rollout):
    """A rollout with the values of all rewards, their sum and the advantage."""

    values: tuple[float | None, ...]
    """The value of each reward of the recipe, in its order; None: unscored, or not asked because the gate is 0."""
    reward: float | None
    """The weighted sum. None: unscored; the caption takes no part in the baseline or the loss."""
    advantage: float | None
    """What the policy is trained with. None: unscored."""
    response: str | None
    """The reasoner's answer from the caption; None if no reward asks the reasoner."""
    verdict: Verdict | None
    """Verdict on that answer."""
