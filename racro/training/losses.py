"""What each `update.loss` is called in TRL, what divides it, and the terms beside it: importance ratios, KL, entropy.

TRL computes the policy's part of a bin (`racro.training.replay` hands it the bins) and divides some losses by the
captions of the bin. Here everything is divided by what the whole optimizer step holds, so that neither the bins nor the
number of processes change the result. KL and entropy are added here for the same reason. Which settings belong together
is said in `racro.config.losses`.

Shapes: B captions of a bin, T tokens of the longest, N tokens of all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from racro import config as recipes
from racro.schema import ScoredRollout


@dataclass(frozen=True)
class _Form:
    in_trl: str
    """TRL's loss type. Those that differ only in what divides them have the same policy part."""
    per: str
    """What divides it: `step`, the step's tokens; `caption`, the caption's own tokens and the number of captions;
    `constant`, `update.loss_length` and the number of captions; `captions`, the number of captions alone."""
    ratio: str = "token"
    """Is the probability ratio that of a token, or of the whole caption?"""


FORMS = {
    "dapo": _Form("dapo", "step"),
    "bnpo": _Form("dapo", "step"),  # TRL takes the tokens of a batch; the batch that makes a step is the step
    "cispo": _Form("cispo", "step"),
    "vespo": _Form("vespo", "step"),
    "grpo": _Form("grpo", "caption"),
    "sapo": _Form("sapo", "caption"),
    "gspo": _Form("grpo", "caption", "sequence"),
    "dr_grpo": _Form("dr_grpo", "constant"),
    "luspo": _Form("luspo", "captions", "sequence"),
}
"""By `update.loss`."""


def trl_arguments(config: recipes.UpdateSettings) -> dict[str, Any]:
    """Arguments of TRL's GRPOConfig for the policy's part."""
    form = FORMS[config.loss]
    arguments = {
        "loss_type": form.in_trl,
        "importance_sampling_level": form.ratio,
        "epsilon": config.clip_low,
        # Of CISPO TRL expects the largest ratio itself.
        "epsilon_high": 1 + config.clip_high if config.loss == "cispo" else config.clip_high,
        "delta": config.clip_delta,
        "sapo_temperature_pos": config.sapo_temperature_pos,
        "sapo_temperature_neg": config.sapo_temperature_neg,
    }
    if config.loss_length is not None:
        arguments["max_completion_length"] = config.loss_length  # only dr_grpo reads it: nothing is generated
    return arguments


@dataclass(frozen=True)
class Size:
    """How much counts in the loss: scored captions that are not empty, and their tokens."""

    captions: int
    tokens: int

    @classmethod
    def of(cls, rollouts: Iterable[ScoredRollout]) -> Size:
        lengths = [len(row.completion_ids) for row in rollouts if row.reward is not None and row.completion_ids]
        return cls(len(lengths), sum(lengths))


@dataclass(frozen=True)
class StepLoss:
    """The loss of an optimizer step, of which each bin gives a share. Gradients are means over the processes."""

    config: recipes.UpdateSettings
    size: Size
    """Of the step, in all processes."""
    processes: int

    def scale(self, captions: int) -> float:
        """What TRL's loss of a bin is multiplied by: it has divided by the step's tokens, or by the bin's captions.

        `captions`: those of the bin (B).
        """
        return 1.0 if FORMS[self.config.loss].per == "step" else captions / self.size.captions * self.processes

    def weights(self, mask: torch.Tensor) -> torch.Tensor:
        """The weight (B, T) of each token in the loss of the step. `mask`: (B, T), 1 where a token counts."""
        match FORMS[self.config.loss].per:
            case "step":
                return mask / self.size.tokens
            case "caption":
                return mask / mask.sum(-1, keepdim=True).clamp(min=1) / self.size.captions
            case "constant":
                assert self.config.loss_length is not None  # the settings see to it
                return mask / (self.size.captions * self.config.loss_length)
        return mask / self.size.captions

    def beside(self, kl: torch.Tensor | None, entropy: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """A bin's share of what is added to the policy's part, a number.

        kl: (B, T), weighted as the loss is; None without. entropy: (B, T) in nats; the bonus is its mean over the
        tokens of the step, for every loss. mask: (B, T).
        """
        found = entropy.new_zeros(())
        if self.config.entropy_bonus:
            found = found - self.config.entropy_bonus * (entropy * mask).sum() / self.size.tokens
        if kl is not None:
            found = found + self.config.beta * (kl * self.weights(mask)).sum()
        return found * self.processes

    def experts(self, found: torch.Tensor, bin: Size, captions: int) -> torch.Tensor:
        """The auxiliary loss of a bin's experts, so that TRL's sum over bins is a mean over tokens.

        bin: what counts of it. captions: those of the bin (B), by which TRL's sum is scaled.
        """
        return found * bin.tokens / self.size.tokens * self.processes / self.scale(captions)


def kl(
    config: recipes.UpdateSettings, logprobs: torch.Tensor, reference: torch.Tensor, old: torch.Tensor
) -> torch.Tensor:
    """Estimates (B, T) of KL(policy || reference) in nats, from log-probs (B, T) of sampled tokens (Schulman 2020).

    With `kl_correction` times the ratio policy / old policy, so that the gradient is that of the estimator's mean under
    the policy (arXiv 2512.02556, as TRL does it). The ratio is the token's for every loss.
    """
    log = logprobs - reference
    match config.kl:
        case "k1":
            found = log
        case "k2":
            found = log.square() / 2
        case _:
            found = torch.expm1(-log) + log
    return found * (logprobs - old).exp() if config.kl_correction else found


def importance(config: recipes.UpdateSettings, gaps: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """Importance ratios (N,) between trainer and engine, as TRL's modes of the same names make them.

    gaps: (N,), log-probs of the trainer before the update minus the engine's. lengths: tokens of each caption; with a
    mode of whole captions all tokens of a caption have the same ratio, the product of theirs.
    """
    level, _, mode = config.importance.partition("_")
    if level == "sequence":
        repeats = torch.tensor(lengths, device=gaps.device)
        gaps = torch.stack([own.sum() for own in gaps.split(list(lengths))]).repeat_interleave(repeats)
    ratio = gaps.exp()
    if mode == "truncate":
        return ratio.clamp(config.importance_floor, config.importance_cap)
    return ratio.masked_fill((ratio < config.importance_floor) | (ratio > config.importance_cap), 0.0)


def bounded(config: recipes.UpdateSettings, ratio: torch.Tensor) -> torch.Tensor:
    """Which importance ratios (N,) are at a bound or masked, because they were out of bounds?"""
    return (ratio >= config.importance_cap) | (ratio <= config.importance_floor)


def advantages(config: recipes.UpdateSettings, values: torch.Tensor, ratio: torch.Tensor) -> dict[str, torch.Tensor]:
    """Advantages (B,) of captions and importance ratios (B, T) between trainer and engine, as TRL's loss takes them."""
    if config.loss == "vespo":  # it makes the weight of a caption from both ratios
        return {"advantages": values[:, None], "importance_sampling_ratio": ratio}
    return {"advantages": values[:, None] * ratio}


def padded(values: torch.Tensor, lengths: Sequence[int], filling: float = 0.0) -> torch.Tensor:
    """(N,) as (B, T), padded right. T is at least 2: TRL takes one column for a number per caption."""
    rows = pad_sequence(values.split(list(lengths)), batch_first=True, padding_value=filling)
    return pad(rows, (0, max(0, 2 - rows.shape[1])), value=filling)
