"""Recipe sections `rollout`, `update` and `evaluation`: the stages of a training."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, model_validator

from racro.config import losses
from racro.config.base import Config, NeutralDefault

Part = Literal["vision", "merger"]


def _each_once(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    return tuple(sorted(set(parts)))


def _one_behind(value: Any) -> Any:
    if isinstance(value, int) and value not in (0, 1):
        raise ValueError(
            f"{value}: give 0 or 1, because the trainer keeps the weights of one earlier policy, to check captions with"
        )
    return value


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
    refill: Annotated[int, Field(ge=0), NeutralDefault()] = 0
    """Largest number of rounds in which groups without signal are replaced by captions of new problems (DAPO's dynamic
    sampling). 0: none are replaced."""
    references: Annotated[bool, NeutralDefault()] = False
    """Does a known caption of the problem (`problems.columns.reference`) join a group in which no caption leads to the
    right answer (after ViSurf)? It is scored as the others are, and left out if it does not lead there either."""
    lag: Annotated[Literal[0, 1], BeforeValidator(_one_behind), NeutralDefault()] = 0
    """How many updates older than the newest policy the one is that writes an iteration's captions. 1: captions and
    rewards of the next iteration are made while the update runs, where engines and trainer have separate places; the
    result is the same where they have not."""

    def alone(self) -> RolloutSettings:
        """How captions are sampled, whatever becomes of them: without `refill`, `references` and `lag`."""
        return self.model_copy(update={"refill": 0, "references": False, "lag": 0})


class UpdateSettings(Config):
    """Stage update: GRPO on the scored captions of one iteration."""

    learning_rate: Annotated[float, Field(ge=0)] = 1e-6
    """Learning rate of AdamW, constant after warm-up."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Number of optimizer steps of linear warm-up, counted over the whole training."""
    beta: Annotated[float, Field(ge=0)] = 1e-3
    """Weight of the penalty KL(policy || initial policy), per token. 0: no penalty."""
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
    """Largest importance ratio between trainer and engine: what is larger is lowered to it, or masked (`importance`).
    """
    max_logprob_gap: Annotated[float, Field(gt=0)] = 0.05
    """Largest mean |log-prob difference| per token between engine and trainer, in nats; above it the run stops."""
    freeze: Annotated[tuple[Part, ...], AfterValidator(_each_once), NeutralDefault()] = ()
    """Parts of the captioner that are not trained: `vision`, the vision tower, and `merger`, which turns what the tower
    sees into tokens of the language model. Adapters never train them."""
    optimizer: Annotated[Literal["adamw", "adamw_8bit"], NeutralDefault()] = "adamw"
    """adamw: moments in float32. adamw_8bit: in 8 bits, a quarter of the memory; needs torchao."""
    loss: Annotated[losses.Loss, NeutralDefault()] = "dapo"
    """What is done with ratios and advantages, and what the sum is divided by; docs/recipes.md has the formulas."""
    loss_length: Annotated[PositiveInt | None, NeutralDefault()] = None
    """Number of tokens that dr_grpo divides each caption's sum by, whatever its length; usually rollout.max_tokens."""
    clip_delta: Annotated[float | None, Field(gt=1), NeutralDefault()] = None
    """Two-sided clipping: largest probability ratio where the advantage is negative, which PPO clipping leaves open
    (arXiv 1912.09729, 2505.07291; 3 is usual). None: no bound."""
    sapo_temperature_pos: Annotated[float, Field(gt=0), NeutralDefault()] = 1.0
    """Of sapo, where the advantage is positive: the higher, the faster ratios far from 1 lose their weight."""
    sapo_temperature_neg: Annotated[float, Field(gt=0), NeutralDefault()] = 1.05
    """Of sapo, where the advantage is not positive."""
    importance: Annotated[losses.Importance, NeutralDefault()] = "token_truncate"
    """How the importance ratio between trainer and engine weighs a caption's tokens: each by its own, or all by the
    product over the caption (sequence). A ratio out of bounds is set to the bound (truncate) or to 0 (mask)."""
    importance_floor: Annotated[float, Field(ge=0, lt=1), NeutralDefault()] = 0.0
    """Smallest importance ratio between trainer and engine. 0: no bound."""
    kl: Annotated[Literal["k1", "k2", "k3"], NeutralDefault()] = "k3"
    """Estimator of the KL in nats, with d = log(policy / initial policy) of a sampled token. k1: d. k2: d²/2.
    k3: exp(-d) - 1 + d."""
    kl_correction: Annotated[bool, NeutralDefault()] = True
    """Multiply the KL by the ratio of the policy to that before the update, so that its gradient is that of the mean
    under the policy (arXiv 2512.02556). false: plain, as in GRPO's paper."""
    entropy_bonus: Annotated[float, Field(ge=0), NeutralDefault()] = 0.0
    """Weight of the policy's mean entropy per token, in nats, which is subtracted from the loss. 0: no bonus."""

    @model_validator(mode="after")
    def _together(self) -> UpdateSettings:
        fields = type(self).model_fields
        if found := losses.refusal(self, {key: fields[key].default for key in losses.REASONS}):
            raise ValueError(found)
        return self


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
