"""How long the rest of a stage takes is said once enough of it is done."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.running.progress import ENOUGH, Progress


@pytest.mark.parametrize("done, total", [(1, 539), (2, 8), (3, 1000)])
def test_a_beginning_tells_nothing_about_the_end(done: int, total: int) -> None:
    assert "to go" not in Progress("reward", "requests")._rate(done, total)


@given(st.integers(ENOUGH, 10**6), st.floats(0.1, 0.99))
def test_a_part_tells_how_long_the_rest_takes(done: int, share: float) -> None:
    assert "s to go" in Progress("reward", "requests")._rate(done, max(done + 1, int(done / share)))


def test_the_end_says_how_long_it_took() -> None:
    assert " in 0.0 s" in Progress("reward", "requests")._rate(5, 5)
