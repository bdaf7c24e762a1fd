"""So many questions in any minute from one address, and no more; what an address is, is not for the client to say."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro.serving import rates
from racro.serving.errors import ApiError
from racro.serving.rates import Rates

TIMES = st.lists(st.floats(0, 300), max_size=60).map(sorted)


def admitted(limit: int, times: Iterable[float]) -> tuple[list[float], list[tuple[float, ApiError]]]:
    """When one client was let in, and when it was not."""
    made, inside, refused = Rates(limit), [], []
    for now in times:
        try:
            made.count("10.0.0.1", now)
            inside.append(now)
        except ApiError as error:
            refused.append((now, error))
    return inside, refused


@given(st.integers(1, 5), TIMES)
def test_no_minute_has_more_than_the_limit(limit: int, times: list[float]) -> None:
    inside, refused = admitted(limit, times)
    for since in inside:
        assert len([one for one in inside if since <= one < since + rates.MINUTE]) <= limit
    for now, error in refused:
        assert (error.status, error.code) == (429, "rate_limit_exceeded")
        assert error.retry_after is not None and 1 <= error.retry_after <= 61
        recent = [one for one in inside if one <= now < one + rates.MINUTE]
        assert len(recent) == limit, "nobody is refused who may ask"


@given(st.integers(1, 5), TIMES)
def test_who_comes_back_when_told_to_is_let_in(limit: int, times: list[float]) -> None:
    _, refused = admitted(limit, times)
    for now, error in refused[:3]:
        assert error.retry_after is not None
        later = now + error.retry_after
        assert later in admitted(limit, [*[one for one in times if one <= now], later])[0]


def test_without_a_limit_nobody_is_refused_or_remembered() -> None:
    made = Rates(0)
    for _ in range(1000):
        made.count("10.0.0.1", 0.0)
    assert not made._asked


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::1", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::1", True),
        ("127.0.0.1", "::1", False),
        ("", "127.0.0.1", False),
    ],
)
def test_what_one_client_can_have_is_one_address(one: str, other: str, same: bool) -> None:
    made = Rates(1)
    made.count(one, 0.0)
    if same:
        with pytest.raises(ApiError, match="from one address"):
            made.count(other, 1.0)
    else:
        made.count(other, 1.0)


def test_many_addresses_take_no_more_memory_than_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "KNOWN", 10)
    made = Rates(1)
    for number in range(50):
        made.count(f"10.0.0.{number}", 0.0)
    assert len(made._asked) == 10
    with pytest.raises(ApiError):
        made.count("10.0.0.49", 1.0)
