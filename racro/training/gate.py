"""Do engine and trainer agree on the captions of an iteration? Said after the first step's passes, before its step.

Called by `racro.training.replay`, in all processes, which decide alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from racro.training.failures import LogprobMismatch


def compared(
    gaps: Sequence[torch.Tensor], ratios: Sequence[torch.Tensor], accelerator: Any, allowed: float
) -> dict[str, float]:
    """Metrics of the comparison, over all processes.

    gaps: log-probs of trainer minus engine, (N,) for each bin of this process. ratios: truncated importance ratios,
    (N,) each. allowed: mean difference per token, in nats. Raises LogprobMismatch.
    """
    none = torch.zeros(0, device=accelerator.device)  # of a process that has no bin
    gap, ratio = torch.cat([none, *gaps]), torch.cat([none, *ratios])
    sums = torch.stack([gap.abs().sum(), ratio.sum(), gap.new_tensor(len(gap))])
    distance, ratios_sum, count = accelerator.reduce(sums).tolist()
    mean = distance / count
    if not mean <= allowed:
        raise LogprobMismatch(
            f"log-probs of engine and trainer differ by {mean:.3g} per token (mean |difference|; "
            f"update.max_logprob_gap is {allowed:.3g}): the rollouts are of another policy, "
            "or engine and trainer disagree on prompt, positions or precision"
        )
    largest = torch.cat([gap.new_zeros(1), gap.abs()]).max()
    return {
        "logprob_gap/mean": mean,
        "logprob_gap/max": accelerator.gather(largest).max().item(),
        "importance_ratio/mean": ratios_sum / count,
    }
