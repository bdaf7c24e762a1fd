"""Rewards of a group -> advantages: the whole of GRPO's baseline.

Not the loss (`racro.training.trainer`), which sees rewards only through these advantages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

EPSILON = 1e-6


def advantages(rewards: Sequence[Sequence[float | None]]) -> list[list[float | None]]:
    """A = (R - mean) / (std + 1e-6) within each group, over its scored captions (arXiv 2506.04559).

    `rewards`: P groups of G. std is the sample standard deviation (divisor n - 1), as in TRL and in verl, on which
    RACRO's code is based. None stays None. A group with one scored caption has no std: its advantage is 0.
    """
    return [_group(group) for group in rewards]


def _group(group: Sequence[float | None]) -> list[float | None]:
    scored = [value for value in group if value is not None]
    if not informative(group):
        return [None if value is None else 0.0 for value in group]
    mean = math.fsum(scored) / len(scored)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in scored) / (len(scored) - 1))
    return [None if value is None else (value - mean) / (std + EPSILON) for value in group]


def informative(group: Sequence[float | None]) -> bool:
    """Does the group carry a gradient, that is, at least two scored captions with different rewards?"""
    return len({value for value in group if value is not None}) > 1
