"""Reward `minimal`: among the right captions of a group, the shorter one is better.

Our own formula, after SCCM (arXiv 2510.23482), whose formula is not public. With weight 0.1 and the answer as gate, a
right caption is worth 1 - 0.1 rank / (G - 1), and a wrong one stays at 0.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from racro import config
from racro.rewards.protocol import Case, Kind, Means, Value, counted, tokens


class Minimal(Kind[config.MinimalReward]):
    """- rank / (G - 1), where rank counts the shorter captions of the group that the gate lets count."""

    version = 1
    needs = frozenset(("gate",))
    remedy = "raise runtime.request_deadline: captions that it cuts have no length"

    def score(self, cases: Sequence[Case], means: Means) -> Iterator[Value]:
        """The values; None where the gate is 0. Captions of equal length have equal ranks."""
        sizes = Counter(case.problem.uid for case in cases)
        lengths: dict[str, list[int]] = defaultdict(list)
        for case in counted(cases):
            if (count := tokens(case.rollout)) is not None:
                lengths[case.problem.uid].append(count)
        for case in cases:
            count, uid = tokens(case.rollout), case.problem.uid
            if not case.gate or count is None:
                yield Value(None, "cut by the deadline" if case.gate else "not ranked")
                continue
            rank = sum(other < count for other in lengths[uid])
            yield Value(-rank / max(1, sizes[uid] - 1), f"{count} tokens, rank {rank}")
