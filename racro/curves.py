"""Points of a training's curves: what reports and figures draw.

Plain numbers; `tasks.recording.report` gathers them from records and tables.
"""

from __future__ import annotations

from pydantic import Field

from racro.schema import Frozen, Share
from racro.summary import Score


class EvalPoint(Score):
    """One evaluation on the held-out problems."""

    iteration: int
    step: int
    by_category: dict[str, Share] = Field(default_factory=dict)
    """Accuracy by category of problem."""


class IterationPoint(Frozen):
    """One round of caption -> reason -> update. Measurements of the update are None when it did not run."""

    iteration: int
    reward_mean: float
    reward_stderr: float
    captions: int
    groups: int
    informative_groups: int
    """Groups whose rewards differ; the others carry no gradient."""
    verdicts: dict[str, int] = Field(default_factory=dict)
    kl: float | None = None
    entropy: float | None = None
    clip_ratio: float | None = None
    logprob_gap: float | None = None
    """Mean |engine - trainer| log-prob per token."""
    caption_tokens_mean: float | None = None
    seconds: dict[str, float] = Field(default_factory=dict)
    """Per stage; 0 for a stage that came from the cache."""
