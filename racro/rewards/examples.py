"""Rewards of the kind `python` that docs/rewards.md shows: models for functions of your own."""

from __future__ import annotations

from collections.abc import Sequence

from racro.rewards.protocol import Case


def repetition(cases: Sequence[Case], *, size: int = 20) -> list[float]:
    """Minus the share of runs of `size` words that a caption repeats (Perception-R1, arXiv 2506.07218, with weight 2).

    0 for a caption that repeats nothing or is shorter than `size`.
    """
    return [-_repeated(case.rollout.caption.split(), size) for case in cases]


def _repeated(words: list[str], size: int) -> float:
    runs = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
