"""The state of a batch: a cache with room holds what transformers' own cache would."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.cache_utils import DynamicLayer

from racro.engines.local.decoding import ROOM, RoomyLayer

STEPS = st.lists(
    st.one_of(
        st.integers(1, ROOM + 3),  # so many columns come
        st.lists(st.integers(0, 1), min_size=2, max_size=2),  # these rows stay, in this order
    ),
    max_size=8,
)


def columns(count: int) -> torch.Tensor:
    return torch.randn(2, 3, count, 4)


@given(STEPS)
def test_whatever_comes_and_goes_it_is_the_cache_of_transformers(steps: list[int | list[int]]) -> None:
    plain = DynamicLayer()
    plain.update(columns(5), columns(5))
    roomy = RoomyLayer(plain)
    for step in steps:
        if isinstance(step, int):
            keys, values = columns(step), columns(step)
            plain.update(keys, values)
            returned = roomy.update(keys, values)
            assert returned[0] is roomy.keys and returned[1] is roomy.values
        else:
            plain.reorder_cache(torch.tensor(step))
            roomy.reorder_cache(torch.tensor(step))
        assert torch.equal(roomy.keys, plain.keys) and torch.equal(roomy.values, plain.values)
        assert roomy.get_seq_length() == plain.get_seq_length()


def test_a_step_copies_nothing_while_there_is_room() -> None:
    plain = DynamicLayer()
    plain.update(columns(5), columns(5))
    roomy = RoomyLayer(plain)
    roomy.update(columns(1), columns(1))
    place = roomy.keys.data_ptr()
    for _ in range(ROOM):
        roomy.update(columns(1), columns(1))
        assert roomy.keys.data_ptr() == place
    roomy.update(columns(1), columns(1))
    assert roomy.keys.data_ptr() != place
