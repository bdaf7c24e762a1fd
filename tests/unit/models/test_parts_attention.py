"""Attention in parts: the same numbers and gradients as sdpa with one mask over a row, whatever the row holds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from racro.models import parts_attention
from racro.training.grouped import PADDING, visible


def segments(lengths: list[list[int]], padding: int) -> torch.Tensor:
    """(g, W) of rows of a prompt and captions with so many tokens."""
    width = max(map(sum, lengths)) + padding
    found = torch.full((len(lengths), width), PADDING)
    for row, own in enumerate(lengths):
        found[row, : sum(own)] = torch.arange(len(own)).repeat_interleave(torch.tensor(own))
    return found


ROW = st.tuples(st.integers(0, 6), st.lists(st.integers(1, 5), min_size=1, max_size=4))


@given(st.lists(ROW, min_size=1, max_size=3), st.integers(0, 2), st.sampled_from([1, 2]), st.integers(0, 2**16))
def test_the_same_numbers_and_gradients_as_with_a_mask(rows: list[Any], padding: int, groups: int, seed: int) -> None:
    """groups: heads of queries for each head of keys."""
    segment = segments([[prompt, *own] for prompt, own in rows], padding)
    shape, draw = segment.shape, torch.Generator().manual_seed(seed)
    module = SimpleNamespace(num_key_value_groups=groups, is_causal=True)

    def run(marked: bool) -> tuple[torch.Tensor, ...]:
        draw.manual_seed(seed)
        query = torch.randn(shape[0], 2 * groups, shape[1], 4, generator=draw).requires_grad_()
        key, value = (torch.randn(shape[0], 2, shape[1], 4, generator=draw).requires_grad_() for _ in range(2))
        mask = visible(segment)[:, None]
        if marked:
            setattr(mask, parts_attention.NAME, [[prompt, *own] for prompt, own in rows])
        found, _ = parts_attention.attend(module, query, key, value, mask, scaling=0.5, is_causal=True)
        found = found * (segment != PADDING)[:, :, None, None]
        found.square().sum().backward()
        return found, query.grad, key.grad, value.grad  # type: ignore[return-value]

    for found, expected in zip(run(marked=True), run(marked=False), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_long_rows_are_marked_and_short_ones_are_not() -> None:
    """Eight captions of 400 tokens behind a prompt of 1,200; and of 12 behind 77, as the embedded world has them."""
    for lengths, parts in (([1199, *[400] * 8], True), ([76, *[12] * 8], False)):
        segment = segments([lengths], 0)
        mask = visible(segment)[:, None]
        parts_attention.mark(mask, segment)
        assert getattr(mask, parts_attention.NAME, None) == ([lengths] if parts else None)


def test_padding_and_a_prompt_of_one_token_are_no_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    segment = segments([[0, 3, 2], [2, 1]], 1)
    mask = visible(segment)[:, None]
    monkeypatch.setattr(parts_attention, "CELLS", -1000)
    parts_attention.mark(mask, segment)
    assert getattr(mask, parts_attention.NAME) == [[0, 3, 2], [2, 1]]


def test_what_is_saved_is_counted_by_hand() -> None:
    """A row of 10 columns: a prompt of 4 (8 pairs), captions of 2 and 3 (12 and 21); 100 with a mask."""
    assert parts_attention.saved([[4, 2, 3]], 10) == 100 - 8 - 12 - 21
