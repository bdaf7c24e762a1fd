"""Do engine and trainer agree on the captions of an iteration? Said after the first step's passes, before its step.

And how much weight has each token, where the engine had another policy than the one that is updated? Used by
`racro.training.replay`, in all processes, which decide alike. Shapes: N tokens of a bin's captions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from racro import config as recipes
from racro.schema import ScoredRollout
from racro.training import losses
from racro.training.failures import LogprobMismatch
from racro.training.passes import Prepared


class Gate:
    """What the bins of this process say about it."""

    def __init__(self, accelerator: Any, config: recipes.UpdateSettings, rollouts: Sequence[ScoredRollout]) -> None:
        self.accelerator, self.config, self.rollouts = accelerator, config, rollouts
        self.gaps: list[torch.Tensor] = []
        """Of each bin that is compared, (N,): log-probs of the policy that wrote, by trainer minus by engine, over the
        tokens that engines sample."""
        self.moved: list[torch.Tensor] = []
        """Of each bin, log-probs of the policy before the first step minus the engine's, over the tokens of the engine.
        """
        self.ratios: list[torch.Tensor] = []
        """Of each bin, importance ratios made of these, 0 where masked."""

    def ratio(self, prepared: Prepared, old: torch.Tensor) -> torch.Tensor:
        """Importance ratios (N,), 1 where no engine wrote. `old`: log-probs (N,) before the first step."""
        return losses.importance(self.config, self._moved(prepared, old), prepared.lengths)

    def add(self, prepared: Prepared, old: torch.Tensor) -> None:
        """A bin with its log-probs (N,) before the first step."""
        written = self._written(prepared)
        self.moved.append(self._moved(prepared, old)[written])
        self.ratios.append(self.ratio(prepared, old)[written])

    def compare(self, prepared: Prepared, logprobs: torch.Tensor, log_allowed: torch.Tensor) -> None:
        """A bin with its log-probs (N,) under the policy that wrote, and the logs (N,) of the share of tokens that
        engines sample."""
        self.gaps.append((self._moved(prepared, logprobs) - log_allowed)[self._written(prepared)])

    def metrics(self, of_all: Callable[[bool], bool]) -> dict[str, float]:
        """Over all processes. staleness_nats: mean |moved| per token. Raises LogprobMismatch.

        `of_all`: is something so in any of the processes?
        """
        moved, ratio = self._joined(self.moved), self._joined(self.ratios)
        clipped = losses.bounded(self.config, ratio)
        sums = [moved.abs().sum(), ratio.sum(), (ratio == 0).sum(), clipped.sum(), ratio.new_tensor(len(ratio))]
        *found, count = self.accelerator.reduce(torch.stack(sums)).tolist()
        names = ("staleness_nats", "importance_ratio/mean", "importance_ratio/masked", "importance_ratio/clipped")
        weighed = {name: value / max(count, 1.0) for name, value in zip(names, found, strict=True)}
        return weighed | (self._compared() if of_all(bool(self.gaps)) else {})

    def _compared(self) -> dict[str, float]:
        gap, allowed = self._joined(self.gaps), self.config.max_logprob_gap
        distance, count = self.accelerator.reduce(torch.stack([gap.abs().sum(), gap.new_tensor(len(gap))])).tolist()
        if not count:  # references only, which no engine wrote
            return {}
        mean = distance / count
        if not mean <= allowed:
            raise LogprobMismatch(
                f"log-probs of engine and trainer differ by {mean:.3g} per token (mean |difference|; "
                f"update.max_logprob_gap is {allowed:.3g}): the rollouts are of another policy, "
                "or engine and trainer disagree on prompt, positions or precision"
            )
        largest = torch.cat([gap.new_zeros(1), gap.abs()]).max()
        return {"logprob_gap/mean": mean, "logprob_gap/max": self.accelerator.gather(largest).max().item()}

    def _moved(self, prepared: Prepared, logprobs: torch.Tensor) -> torch.Tensor:
        """Log-probs (N,) minus those that the engine recorded; 0 for references, which no engine wrote."""
        rollouts = [self.rollouts[number] for number in prepared.captions]
        recorded = [value for row in rollouts for value in row.logprobs or [0.0] * len(row.completion_ids)]
        moved = logprobs - torch.tensor(recorded, device=self.accelerator.device)
        return moved.where(self._written(prepared), 0.0)

    def _written(self, prepared: Prepared) -> torch.Tensor:
        """Which tokens (N,) did the engine write?"""
        rollouts = [self.rollouts[number] for number in prepared.captions]
        written = [not row.reference for row in rollouts for _ in row.completion_ids]
        return torch.tensor(written, device=self.accelerator.device)

    def _joined(self, values: Sequence[torch.Tensor]) -> torch.Tensor:
        """All bins in one; nothing in a process that has none."""
        return torch.cat([torch.zeros(0, device=self.accelerator.device), *values])
