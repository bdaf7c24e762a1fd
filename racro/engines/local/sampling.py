"""From logits to tokens: bans, temperature, nucleus, and draws that depend on a prompt's seed alone.

Not an engine. Used by `racro.engines.local.transformers`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from racro.engines.protocol import Sampling

BLOCK = 64
"""Decode steps for which random numbers are drawn at once."""


def log_distribution(logits: torch.Tensor, sampling: Sampling, banned: torch.Tensor) -> torch.Tensor:
    """Log-probs (B, V) in float32 of what is sampled from. Greedy: of the distribution at temperature 1."""
    logits = logits.float().index_fill(-1, banned, -torch.inf)
    if sampling.temperature not in (0.0, 1.0):
        logits = logits / sampling.temperature
    logprobs = logits.log_softmax(-1)
    if sampling.temperature == 0 or sampling.top_p >= 1:
        return logprobs
    ordered, order = logprobs.sort(-1, descending=True)
    probs = ordered.exp()
    beyond = probs.cumsum(-1) - probs >= sampling.top_p  # the token that crosses top_p stays in
    return logprobs.masked_fill(beyond.scatter(-1, order, beyond), -torch.inf).log_softmax(-1)


def draw(logprobs: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Tokens (B,) by inverse CDF: the first whose cumulated probability exceeds the uniform number.

    In float64: with 150,000 tokens the rounding of a float32 sum would move draws from token to token.
    """
    cumulated = logprobs.exp().cumsum(-1, dtype=torch.float64)
    total = cumulated[:, -1:]
    # A number in [0, 1) times the total can round up to the total, which no cumulated probability exceeds.
    target = torch.minimum(uniforms[:, None] * total, total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(cumulated, target, right=True)[:, 0].clamp(max=logprobs.shape[-1] - 1)


class Uniforms:
    """Random numbers in [0, 1) by (prompt's seed, sample, step), independent of the rest of the batch.

    From CPU generators on every device, so that a GPU repeats a CPU's draws.
    """

    def __init__(self, seeds: Sequence[int], n: int, device: torch.device) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.n, self.device = n, device
        self.block: list[torch.Tensor] = []

    def next(self) -> torch.Tensor:
        """Numbers (B x n,) of the next step, in float64."""
        if not self.block:
            drawn = [torch.rand(BLOCK, self.n, generator=g, dtype=torch.float64) for g in self.generators]
            self.block = list(torch.cat(drawn, 1).to(self.device).flip(0))
        return self.block.pop()
