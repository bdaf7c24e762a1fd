"""Points of a training's curves: what reports and figures draw.

Plain numbers; `tasks.recording.report` gathers them from records and tables.
"""

from __future__ import annotations

from pydantic import Field

from racro.config import Objective
from racro.schema import Frozen, Share
from racro.summary import Score


class EvalPoint(Score):
    """One evaluation on the held-out problems."""

    iteration: int
    step: int
    by_category: dict[str, Share] = Field(default_factory=dict)
    """Accuracy by category of problem."""


class IterationPoint(Frozen):
    """One round of caption -> rewards -> update. Measurements of the update are None when it did not run."""

    iteration: int
    stage: int = 0
    """Number of its stage of the training."""
    objective: Objective = "caption"
    """What the policy wrote in it."""
    reward_mean: float
    reward_stderr: float
    rewards: dict[str, float] = Field(default_factory=dict)
    """Mean value of each reward of the sum, by its title, before weight and gate."""
    captions: int
    groups: int
    informative_groups: int
    """Groups in which an advantage is not 0; the others carry no gradient."""
    verdicts: dict[str, int] = Field(default_factory=dict)
    kl: float | None = None
    entropy: float | None = None
    clip_ratio: float | None = None
    importance_clipped: float | None = None
    """Share of tokens whose importance ratio between trainer and engine was out of bounds."""
    staleness_steps: float | None = None
    """Optimizer steps between the policy that wrote the captions and the one that was updated."""
    staleness_nats: float | None = None
    """Mean |difference| of their log-probs per token; None without `rollout.lag`."""
    logprob_gap: float | None = None
    """Mean |engine - trainer| log-prob per token."""
    caption_tokens_mean: float | None = None
    pass_rate: float | None = None
    """Share of right answers; None if no reward grades any."""
    leaks: float | None = None
    """Share of captions that announce an answer; None if no scene is known."""
    seconds: dict[str, float] = Field(default_factory=dict)
    """Per stage; those of all rewards and of their sum are one."""

    @property
    def informative(self) -> float:
        """Share of the informative groups."""
        return self.informative_groups / self.groups if self.groups else 0.0

    @property
    def reward(self) -> str:
        """The mean reward with its standard error: "0.512 ± 0.020". Without one where all problems have the same."""
        error = f" ± {self.reward_stderr:.3f}" if self.groups > 1 and self.reward_stderr else ""
        return f"{self.reward_mean:.3f}{error}"
