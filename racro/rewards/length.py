"""Reward `length`: how many tokens did the policy write? Forms budget (CapRL++) and mask (BalCapRL).

Both are from abstracts and notes on these papers, not from their code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from racro import config
from racro.rewards.protocol import Case, Kind, Means, Value, tokens


class Length(Kind[config.LengthReward]):
    """A value from 0 to 1 by the number of tokens, end-of-text token included."""

    version = 1
    blind = True
    remedy = "raise runtime.request_deadline: captions that it cuts have no length"

    def score(self, cases: Sequence[Case], means: Means) -> Iterator[Value]:
        """The values; None for a caption that the deadline cut."""
        for case in cases:
            count = tokens(case.rollout)
            yield Value(None, "cut by the deadline") if count is None else Value(self._of(count), f"{count} tokens")

    def _of(self, count: int) -> float:
        settings = self.settings
        if settings.form == "mask":
            assert settings.reference
            return float(settings.shortest <= count / settings.reference <= settings.longest)
        return min(1.0, max(0.0, (settings.limit - count) / (settings.limit - settings.budget)))
