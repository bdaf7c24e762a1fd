"""Bins: every caption once, within the budget, the same number for each process."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from racro.training import planning
from racro.training.bins import Lengths, deal

GROUPS = st.dictionaries(
    st.integers(0, 50),
    st.builds(Lengths, st.integers(1, 40), st.lists(st.integers(0, 30), min_size=2, max_size=8).map(tuple)),
    min_size=1,
    max_size=12,
)


@given(GROUPS, st.integers(1, 5), st.integers(1, 400), st.booleans())
def test_bins_hold_every_caption_once_within_the_budget(
    groups: dict[int, Lengths], processes: int, budget: int, shared: bool
) -> None:
    dealt = deal(groups, processes, budget, shared)
    assert len(dealt) == processes
    assert len({len(bins) for bins in dealt}) == 1
    bins = [bin for own in dealt for bin in own]
    captions = [(row.group, caption) for bin in bins for row in bin.rows for caption in row.captions]
    with_tokens = [(number, i) for number, own in groups.items() for i, length in enumerate(own.captions) if length]
    assert sorted(captions) == sorted(with_tokens)
    for bin in bins:
        for row in bin.rows:
            own = groups[row.group]
            assert row.tokens == own.prompt - 1 + sum(own.captions[i] for i in row.captions)
            assert shared or len(row.captions) == 1
        assert bin.tokens == len(bin.rows) * max((row.tokens for row in bin.rows), default=0)
        assert all(bin.tokens / len(bin.rows) - row.tokens <= bin.tokens / len(bin.rows) / 8 for row in bin.rows)
        assert bin.tokens <= budget or [len(row.captions) for row in bin.rows] == [1]
    shuffled = dict(reversed(list(groups.items())))
    assert deal(shuffled, processes, budget, shared) == dealt


@given(GROUPS, st.integers(1, 400))
def test_a_group_is_divided_only_if_it_exceeds_the_budget(groups: dict[int, Lengths], budget: int) -> None:
    (bins,) = deal(groups, 1, budget)
    rows = [row for bin in bins for row in bin.rows]
    for number, own in groups.items():
        whole = own.prompt - 1 + sum(own.captions)
        assert sum(row.group == number for row in rows) <= 1 or whole > budget


@given(st.lists(st.integers(1, 100), min_size=1, max_size=40), st.integers(1, 6))
def test_processes_get_nearly_the_same_number_of_tokens(lengths: list[int], processes: int) -> None:
    groups = {i: Lengths(1, (length,)) for i, length in enumerate(lengths)}
    loads = [sum(row.tokens for bin in own for row in bin.rows) for own in deal(groups, processes, 100)]
    assert max(loads) - min(loads) <= max(lengths)


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0, None]), min_size=3, max_size=3), max_size=20), st.integers(1, 8))
def test_the_steps_of_a_plan_are_its_groups_in_order(rewards: list[list[float | None]], mini_batch: int) -> None:
    """Nothing else decides what a step is: no process, no budget."""
    groups = tuple(planning.Group(None, tuple(own)) for own in rewards)  # type: ignore[arg-type]
    steps = max(1, round(len(groups) / mini_batch)) if groups else 0
    kept = groups[: len(groups) - len(groups) % steps] if steps else ()
    work = planning.Plan(kept, steps, len(groups), 0, len(groups) - len(kept))
    numbers = [work.numbers(step) for step in range(steps)]
    assert [i for own in numbers for i in own] == list(range(len(kept)))
    assert len({len(own) for own in numbers}) <= 1
