"""Length and minimal against small implementations of their formulas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro import config
from racro.rewards.length import Length
from racro.rewards.minimal import Minimal
from racro.rewards.protocol import Means
from tests.support.cases import group, rollout

MEANS = Means(seed=0, iteration=0, deadline=1.0)
counts = st.lists(st.integers(1, 60), min_size=1, max_size=8)


def lengths(settings: config.LengthReward, tokens: list[int]) -> list[float | None]:
    cases = group([rollout(tokens=count, sample=i) for i, count in enumerate(tokens)])
    return [found.value for found in Length(settings).score(cases, MEANS)]


@given(counts, st.integers(1, 30), st.integers(1, 30))
def test_a_budget_is_1_then_falls_to_0_in_a_line(tokens: list[int], budget: int, more: int) -> None:
    limit = budget + more
    expected = [1.0 if n <= budget else 0.0 if n >= limit else 1 - (n - budget) / more for n in tokens]
    assert lengths(config.LengthReward(budget=budget, limit=limit), tokens) == pytest.approx(expected)


@given(counts, st.integers(1, 30))
def test_a_mask_is_1_from_half_to_twice_the_reference(tokens: list[int], reference: int) -> None:
    expected = [float(reference <= 2 * n and n <= 2 * reference) for n in tokens]
    assert lengths(config.LengthReward(form="mask", reference=reference), tokens) == expected


def test_a_caption_that_the_deadline_cut_has_no_length() -> None:
    cases = group([rollout(tokens=9, finish_reason="deadline"), rollout(tokens=9, sample=1, finish_reason="length")])
    assert [v.value for v in Length(config.LengthReward()).score(cases, MEANS)] == [None, 1.0]
    assert [v.value for v in Minimal(config.MinimalReward(gate="a")).score(cases, MEANS)] == [None, 0.0]


@given(st.lists(st.tuples(st.integers(1, 9), st.sampled_from([0.0, 1.0, None])), min_size=2, max_size=8))
def test_minimal_ranks_the_right_captions_by_length(drawn: list[tuple[int, float | None]]) -> None:
    """With weight 0.1 and the answer as gate, a right caption is worth 1 - 0.1 rank / (G - 1)."""
    other = rollout(uid="other", tokens=1)  # another problem, which must not matter
    cases = [
        *group([rollout(tokens=n, sample=i) for i, (n, _) in enumerate(drawn)], [gate for _, gate in drawn]),
        *group([other]),
    ]
    found = [v.value for v in Minimal(config.MinimalReward(gate="answer")).score(cases, MEANS)][:-1]
    right = sorted(n for n, gate in drawn if gate == 1)
    expected = [1 - 0.1 * right.index(n) / (len(drawn) - 1) if gate else None for n, gate in drawn]
    assert [None if v is None else 1 + 0.1 * v for v in found] == [
        None if e is None else pytest.approx(e) for e in expected
    ]
