"""The losses of an optimizer step once more, token by token, from their formulas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from racro.config import UpdateSettings

SEQUENCE = {"importance": "sequence_truncate"}
EACH: dict[str, dict[str, Any]] = {
    "dapo": {},
    "bnpo": {},
    "grpo": {},
    "dr_grpo": {"loss_length": 7},
    "cispo": {},
    "sapo": {},
    "gspo": SEQUENCE,
    "luspo": SEQUENCE,
    "vespo": {},
}
"""Every loss, with what it cannot do without."""


@dataclass(frozen=True)
class Caption:
    """What the loss knows of a caption. Tensors are (T,)."""

    logprobs: torch.Tensor
    entropy: torch.Tensor
    old: torch.Tensor
    """Log-probs before the update."""
    engine: torch.Tensor
    """Log-probs that the engine recorded."""
    reference: torch.Tensor
    """Log-probs of the initial policy."""
    advantage: float
    scored: bool = True


def formula(settings: UpdateSettings, captions: Sequence[Caption]) -> torch.Tensor:
    """The loss of the step that consists of these captions, a number."""
    counted = [caption for caption in captions if caption.scored]
    tokens = sum(len(caption.logprobs) for caption in counted)
    total = torch.zeros((), dtype=counted[0].logprobs.dtype)
    for caption in counted:
        length = len(caption.logprobs)
        divisor = {
            "grpo": length * len(counted),
            "sapo": length * len(counted),
            "gspo": length * len(counted),
            "dr_grpo": (settings.loss_length or 0) * len(counted),
            "luspo": len(counted),
        }.get(settings.loss, tokens)
        weights = _importance(settings, caption)
        for t in range(length):
            gained = _gain(settings, caption, t, weights)
            total = total - (gained - settings.beta * _kl(settings, caption, t)) / divisor
            total = total - settings.entropy_bonus * caption.entropy[t] / tokens
    return total


def _importance(settings: UpdateSettings, caption: Caption) -> list[float]:
    own = (caption.old - caption.engine).tolist()
    of_tokens = [math.exp(sum(own) if settings.importance.startswith("sequence") else gap) for gap in own]
    low, high = settings.importance_floor, settings.importance_cap
    if settings.importance.endswith("mask"):
        return [ratio if low <= ratio <= high else 0.0 for ratio in of_tokens]
    return [min(max(ratio, low), high) for ratio in of_tokens]


def _gain(settings: UpdateSettings, caption: Caption, t: int, weights: list[float]) -> torch.Tensor:
    """What a token adds to the objective, without KL."""
    advantage = caption.advantage
    if settings.loss == "vespo":
        moved = (caption.logprobs - caption.old).exp().prod().item() * math.prod(weights)
        k, fall = (2.0, 3.0) if advantage >= 0 else (3.0, 2.0)
        return moved**k * math.exp(fall * (1 - moved)) * advantage * caption.logprobs[t]
    gain = weights[t] * advantage
    if settings.loss in ("gspo", "luspo"):
        ratio = (caption.logprobs - caption.old).mean().exp()
    else:
        ratio = (caption.logprobs[t] - caption.old[t]).exp()
    if settings.loss == "cispo":
        return min(ratio.item(), 1 + settings.clip_high) * gain * caption.logprobs[t]
    if settings.loss == "sapo":
        hot = settings.sapo_temperature_pos if advantage > 0 else settings.sapo_temperature_neg
        return gain * 4 / hot / (1 + (-hot * (ratio - 1)).exp())
    if advantage > 0:
        return gain * ratio.clamp(max=1 + settings.clip_high)
    highest = math.inf if settings.clip_delta is None else settings.clip_delta
    return gain * ratio.clamp(1 - settings.clip_low, highest)


def _kl(settings: UpdateSettings, caption: Caption, t: int) -> torch.Tensor:
    r = (caption.reference[t] - caption.logprobs[t]).exp()
    found = {"k1": -r.log(), "k2": r.log() ** 2 / 2, "k3": r - 1 - r.log()}[settings.kl]
    return found * (caption.logprobs[t] - caption.old[t]).exp() if settings.kl_correction else found
