"""Who wins a vote, against a plain count."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from racro.rollouts.votes import elect


@given(st.lists(st.sampled_from(["1", "2", "3", "unknown", None]), max_size=9))
def test_the_most_frequent_real_answer_wins_and_no_answer_only_where_there_is_no_other(
    said: list[str | None],
) -> None:
    number = elect(said, lambda one, other: one == other, lambda answer: answer == "unknown")
    real = [one for one in said if one not in (None, "unknown")]
    counts = Counter(real)
    if real:
        assert number is not None and counts[said[number]] == max(counts.values())
        assert said[number] == next(one for one in said if one is not None and counts[one] == max(counts.values()))
        assert number == said.index(said[number])
    elif "unknown" in said:
        assert number == said.index("unknown")
    else:
        assert number is None
