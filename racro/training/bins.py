"""Groups of an optimizer step -> processes -> bins, each of which is one forward and backward pass.

Only numbers of tokens: no model, no rollouts. The plan says which groups make a step (`racro.training.planning`) and
decides the result; bins say how much of a step is in memory at once, and change nothing but rounding. Called by
`racro.training.replay`.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PADDING = 1 / 8
"""Largest share of a row that may be padding. A much shorter row opens another bin, so that a long caption costs only
its own tokens."""


@dataclass(frozen=True)
class Lengths:
    """Numbers of tokens of a group."""

    prompt: int
    captions: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """Captions that share one pass over their prompt."""

    group: int
    """The group's number in the plan."""
    captions: tuple[int, ...]
    """Which of the group's captions, in ascending order. None of them is empty."""
    tokens: int
    """Columns in a forward: the prompt and the captions, without a last token that has nothing to predict."""


@dataclass(frozen=True)
class Bin:
    """Rows of one pass. Without rows where another process has more bins."""

    rows: tuple[Row, ...]

    @property
    def tokens(self) -> int:
        """What a forward computes: rows times the columns of the longest."""
        return len(self.rows) * max((row.tokens for row in self.rows), default=0)


def deal(groups: Mapping[int, Lengths], processes: int, budget: int, shared: bool = True) -> list[list[Bin]]:
    """The bins of each process for one optimizer step: as many for each, the largest first.

    groups: those of the step, by number. budget: tokens of a bin; only a single caption may exceed it. shared: do the
    captions of a group share a pass over their prompt? Captions without tokens have nothing to compute and are left
    out.
    """
    divisions = [divided(number, lengths, budget, shared) for number, lengths in groups.items()]
    # Rows of a group stay together, so that its images are decoded once for all of them.
    divisions.sort(key=lambda rows: (-max((row.tokens for row in rows), default=0), [row.group for row in rows]))
    found = [row for rows in divisions for row in rows]
    parts = _balanced([row.tokens for row in found], processes)
    filled = [_filled([found[i] for i in part], budget) for part in parts]
    most = max(map(len, filled))
    return [bins + [Bin(())] * (most - len(bins)) for bins in filled]


def divided(number: int, lengths: Lengths, budget: int, shared: bool = True) -> list[Row]:
    """A group in as few rows as the budget allows, of nearly equal size. Each row repeats the prompt."""
    captions = [i for i, length in enumerate(lengths.captions) if length]
    captions.sort(key=lambda i: (-lengths.captions[i], i))
    rows: list[Row] = []
    for count in range(1 if shared else len(captions), len(captions) + 1):
        parts = [[captions[i] for i in part] for part in _balanced([lengths.captions[i] for i in captions], count)]
        rows = [_row(number, lengths, part) for part in parts if part]
        if all(row.tokens <= budget for row in rows):
            break
    return rows


def _row(number: int, lengths: Lengths, captions: Sequence[int]) -> Row:
    return Row(number, tuple(sorted(captions)), lengths.prompt - 1 + sum(lengths.captions[i] for i in captions))


def _balanced(weights: Sequence[int], parts: int) -> list[list[int]]:
    """Places of weights in parts of nearly equal weight: each joins the lightest part. Best with the largest first."""
    dealt: list[list[int]] = [[] for _ in range(parts)]
    lightest = [(0, number) for number in range(parts)]
    for place, weight in enumerate(weights):
        total, number = lightest[0]
        dealt[number].append(place)
        heapq.heapreplace(lightest, (total + weight, number))
    return dealt


def _filled(rows: Sequence[Row], budget: int) -> list[Bin]:
    """Bins of rows that come nearly in order of length, so that neighbours share one."""
    bins: list[list[Row]] = []
    for row in rows:
        own = [*bins[-1], row] if bins else [row]
        longest, shortest = (end(member.tokens for member in own) for end in (max, min))
        if bins and len(own) * longest <= budget and longest - shortest <= longest * PADDING:
            bins[-1].append(row)
        else:
            bins.append([row])
    return [Bin(tuple(own)) for own in bins]
