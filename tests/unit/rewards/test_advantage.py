"""Advantages are GRPO's, over what is scored."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from racro.rewards.advantage import advantages, informative

rewards = st.sampled_from([0.0, 0.9, 1.0])
groups = st.lists(st.one_of(st.none(), rewards), min_size=1, max_size=10)


def test_a_group_by_hand() -> None:
    [group] = advantages([[1.0, 0.0, 0.0, 1.0]])
    assert group == pytest.approx([0.8660, -0.8660, -0.8660, 0.8660], abs=1e-4)


@given(st.lists(rewards, min_size=2, max_size=10))
def test_they_are_those_of_torch(group: list[float]) -> None:
    values = torch.tensor(group, dtype=torch.float64)
    expected = (values - values.mean()) / (values.std() + 1e-6)
    assert advantages([group])[0] == pytest.approx(expected.tolist(), abs=1e-9)


@given(st.lists(groups, max_size=5))
def test_unscored_captions_take_no_part(batch: list[list[float | None]]) -> None:
    for group, result in zip(batch, advantages(batch), strict=True):
        assert [a is None for a in result] == [r is None for r in group]
        scored = [r for r in group if r is not None]
        assert [a for a in result if a is not None] == advantages([scored])[0]
        assert sum(a or 0.0 for a in result) == pytest.approx(0, abs=1e-9)
        assert any(result) == informative(group)


@pytest.mark.parametrize("group", [[], [None, None], [1.0], [1.0, None], [0.0, 0.0, 0.0], [1.0, 1.0, None]])
def test_a_group_that_teaches_nothing(group: list[float | None]) -> None:
    assert not informative(group)
    assert not any(advantages([group])[0])
