"""A share never claims to be certain, and its interval is Wilson's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from racro.schema import Share

counts = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts)
def test_the_interval_is_wilsons(count: tuple[int, int]) -> None:
    share = Share.counted(*count)
    assert share is not None
    expected = binomtest(*count).proportion_ci(method="wilson")
    assert share.interval == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(counts)
def test_no_share_is_certain(count: tuple[int, int]) -> None:
    share = Share.counted(*count)
    assert share is not None
    assert share.stderr > 0
    low, high = share.interval
    assert 0 <= low <= share.value <= high <= 1 and low < high
    assert ("±" in share.percent) is (share.n > 1)


@given(counts.filter(lambda count: 0 < count[0] < count[1]), st.integers(2, 9))
def test_cases_that_move_together_count_once(count: tuple[int, int], copies: int) -> None:
    """A share over k copies of each case, with the standard error of the cases, has the interval of the cases."""
    share = Share.counted(*count)
    assert share is not None
    copied = share.model_copy(update={"n": copies * share.n})
    assert copied.interval == pytest.approx(share.interval)


def test_a_share_in_words() -> None:
    share = Share.counted(981, 2048)
    assert share is not None
    assert (share.percent, share.range) == ("47.9 ± 1.1", "45.7–50.1")
    assert Share.of([]) is None
    assert str(Share.of([True]) and Share.of([True]).percent) == "100.0"  # type: ignore[union-attr]
