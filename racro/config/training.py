"""Recipe sections `rollout`, `reward`, `update` and `evaluation`: the stages of a training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from racro.config.base import Config, Share


class RolloutSettings(Config):
    """Stage caption: what one iteration samples."""

    problems: PositiveInt = 256
    """Problems per iteration (P)."""
    group_size: Annotated[int, Field(ge=2)] = 4
    """Captions per problem (G)."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Sampling temperature; the policy gradient is exact at 1."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling."""
    max_tokens: PositiveInt = 8192
    """Longest caption."""


class RewardSettings(Config):
    """Stage reason: from verdicts to rewards."""

    kind: Literal["answer"] = "answer"
    """answer: 1 when the reasoner's answer from the caption is right, 0 when it is wrong (RACRO)."""
    penalty: Share = 0.0
    """Taken from a reward of 1 when the text does not describe the image, as the policy itself judges (RAPID: 0.1)."""
    truncated: Literal["wrong", "unscored"] = "wrong"
    """How a reasoner's output that hit the token limit counts."""
    max_unscored: Share = 0.2
    """Above this share of unscored captions the run stops."""


class UpdateSettings(Config):
    """Stage update: GRPO on the stored rollouts."""

    learning_rate: Annotated[float, Field(ge=0)] = 1e-6
    """Constant after warm-up."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Optimizer steps of linear warm-up, counted over the whole training."""
    beta: Annotated[float, Field(ge=0)] = 1e-3
    """Weight of KL(policy || initial policy), k3 estimator."""
    clip_low: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """PPO clip below: ratio >= 1 - clip_low."""
    clip_high: Annotated[float, Field(gt=0)] = 0.2
    """PPO clip above: ratio <= 1 + clip_high."""
    mini_batch: PositiveInt = 128
    """Problems per optimizer step."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW weight decay."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradient norm is clipped to this."""
    importance_cap: Annotated[float, Field(ge=1)] = 2.0
    """Cap of the engine-to-trainer importance ratio (truncated importance sampling)."""
    max_logprob_gap: Annotated[float, Field(gt=0)] = 0.05
    """The run stops when engine and trainer differ by more, mean |log-prob difference| per token."""


class EvaluationSettings(Config):
    """Evaluation: greedy captions of held-out problems, answered by the reasoner."""

    every: PositiveInt = 10
    """Iterations between evaluations; the start and the end are always evaluated."""
    problems: PositiveInt = 1000
    """Held-out problems."""
    temperature: Annotated[float, Field(ge=0)] = 0.6
    """Reasoner's temperature."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Reasoner's nucleus."""
