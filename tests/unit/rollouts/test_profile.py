"""Pass rates of problems: what counts, and into which band a problem falls."""

from __future__ import annotations

import statistics

from hypothesis import given
from hypothesis import strategies as st

from racro.rollouts.profile import bands, measured, rates
from racro.schema import RewardRow

values = st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from([0.0, 1.0, None]), min_size=1, max_size=4))


def rows(groups: dict[str, list[float | None]]) -> list[RewardRow]:
    return [
        RewardRow(uid=uid, sample=i, value=value, detail="", response=None, verdict=None)
        for uid, own in groups.items()
        for i, value in enumerate(own)
    ]


@given(values)
def test_a_rate_is_the_mean_of_what_was_scored_and_problems_without_are_counted(
    groups: dict[str, list[float | None]],
) -> None:
    found = rates(list("fedcba"), rows(groups))
    assert [row.uid for row in found] == list("fedcba")
    for row in found:
        known = [value for value in groups.get(row.uid, []) if value is not None]
        assert row.scored == len(known)
        assert row.rate == (statistics.fmean(known) if known else None)
    totals = measured(found)
    means = [row.rate for row in found if row.rate is not None]
    assert totals["measured"] + totals["unmeasured"] == 6 and totals["measured"] == len(means)
    assert totals["pass_rate_mean"] == (statistics.fmean(means) if means else 0.0)
    assert totals["pass_rate_stderr"] > 0, "also where no problem, or every one, is always answered rightly"


def test_a_problem_that_the_last_part_has_a_second_time_counts_once() -> None:
    [row] = rates(["a"], [*rows({"a": [1.0, 0.0]}), *rows({"a": [0.0, 0.0]})])
    assert (row.rate, row.scored) == (0.5, 2)


@given(st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.6, 0.75, 0.9, 1.0]), min_size=1))
def test_every_problem_is_in_one_band(found: list[float]) -> None:
    made = {band.name: band.problems for band in bands(found)}
    assert sum(made.values()) == len(found)
    assert made["0"] == found.count(0.0) and made["1"] == found.count(1.0)
    assert made["above 0 to 0.25"] == sum(0 < rate <= 0.25 for rate in found)
    assert made["above 0.75 below 1"] == sum(0.75 < rate < 1 for rate in found)
    assert all(band.share.n == len(found) for band in bands(found))
