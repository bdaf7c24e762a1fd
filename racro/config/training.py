"""Recipe sections `rollout`, `reward`, `update` and `evaluation`: the stages of a training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt

from racro.config.base import Config, NeutralDefault, Share

Part = Literal["vision", "merger"]


def _each_once(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    return tuple(sorted(set(parts)))


class RolloutSettings(Config):
    """Stage caption: how the captions of one iteration are sampled."""

    problems: PositiveInt = 256
    """Number of problems per iteration (P)."""
    group_size: Annotated[int, Field(ge=2)] = 4
    """Number of captions per problem (G)."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Sampling temperature of captions. The policy gradient is exact only at 1."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling of captions: only the most likely tokens with this total probability; 1: all tokens."""
    max_tokens: PositiveInt = 8192
    """Longest caption in tokens; longer ones are cut."""


class RewardSettings(Config):
    """Stage reason: how verdicts on answers become rewards of captions."""

    kind: Literal["answer"] = "answer"
    """answer: reward 1 if the reasoner's answer from the caption is right, 0 if it is wrong (RACRO)."""
    penalty: Share = 0.0
    """Subtracted from a reward of 1 if the caption does not describe the image, as the policy itself judges (RAPID:
    0.1). 0: the policy is not asked."""
    truncated: Literal["wrong", "unscored"] = "wrong"
    """How an output of the reasoner that reached the token limit counts: as wrong (reward 0), or not at all."""
    max_unscored: Share = 0.2
    """Largest share of unscored captions in an iteration, 0 to 1; above it the run stops."""


class UpdateSettings(Config):
    """Stage update: GRPO on the scored captions of one iteration."""

    learning_rate: Annotated[float, Field(ge=0)] = 1e-6
    """Learning rate of AdamW, constant after warm-up."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Number of optimizer steps of linear warm-up, counted over the whole training."""
    beta: Annotated[float, Field(ge=0)] = 1e-3
    """Weight of the penalty KL(policy || initial policy), estimated by k3. 0: no penalty."""
    clip_low: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """PPO clipping: the probability ratio is clipped below at 1 - clip_low."""
    clip_high: Annotated[float, Field(gt=0)] = 0.2
    """PPO clipping: the probability ratio is clipped above at 1 + clip_high."""
    mini_batch: PositiveInt = 128
    """Number of problems per optimizer step (the aim; steps of an iteration are made equal)."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Weight decay of AdamW."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Largest gradient norm; longer gradients are scaled down to it."""
    importance_cap: Annotated[float, Field(ge=1)] = 2.0
    """Largest importance ratio between trainer and engine, per token (truncated importance sampling)."""
    max_logprob_gap: Annotated[float, Field(gt=0)] = 0.05
    """Largest mean |log-prob difference| per token between engine and trainer, in nats; above it the run stops."""
    freeze: Annotated[tuple[Part, ...], AfterValidator(_each_once), NeutralDefault()] = ()
    """Parts of the captioner that are not trained: `vision`, the vision tower, and `merger`, which turns what the tower
    sees into tokens of the language model. Adapters never train them."""
    optimizer: Annotated[Literal["adamw", "adamw_8bit"], NeutralDefault()] = "adamw"
    """adamw: moments in float32. adamw_8bit: in 8 bits, a quarter of the memory; needs torchao."""


class EvaluationSettings(Config):
    """Evaluation: the reasoner answers from greedy captions of held-out problems."""

    every: PositiveInt = 10
    """Number of iterations between evaluations. The first and the last policy are always evaluated."""
    problems: PositiveInt = 1000
    """Number of held-out problems."""
    temperature: Annotated[float, Field(ge=0)] = 0.6
    """Sampling temperature of the reasoner; 0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Nucleus sampling of the reasoner: only the most likely tokens with this total probability; 1: all tokens."""
