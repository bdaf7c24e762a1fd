"""Rows of a training: captions, answers from them, rewards."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from racro.schema.row import Row

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
    """T natural logarithms of probabilities under the sampling distribution."""
    finish_reason: FinishReason
    caption: str
    """What the reasoner reads: without the thoughts of a captioner that thinks."""


class ScoredRollout(Rollout):
    """A rollout with the reasoner's answer from its caption, the verdict and the reward."""

    response: str
    verdict: Verdict
    describes: bool | None
    """Does the caption describe the image (RAPID's check)? None if this was not asked."""
    reward: float | None
    """None: unscored; the caption takes no part in the baseline or the loss."""
