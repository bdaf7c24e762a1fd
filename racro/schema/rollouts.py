"""Rows of a training: captions, answers from them, rewards."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from racro.schema.row import Row

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
