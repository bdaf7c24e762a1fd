"""Two evaluations are compared over the same questions, exactly, and what cannot be compared is said."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racro.evaluation.compare import Arm, Incomparable, compare, mcnemar
from racro.schema import Mode, Result, Verdict

RIGHT, WRONG, FAILED = Verdict.CORRECT, Verdict.WRONG, Verdict.FAILED


def results(
    verdicts: dict[str, Verdict], mode: Mode = "joint", reasoner: str | None = "r", sample: int = 0
) -> list[Result]:
    return [
        Result(
            benchmark="own",
            uid=uid,
            category="all",
            question=f"What is {uid}?",
            answer="1",
            kind="integer",
            mode=mode,
            captioner="c",
            reasoner=reasoner,
            sample=sample,
            caption_prompt=None,
            caption=None,
            attempt_prompt=None,
            attempt=None,
            prompt="[]",
            response="so",
            tokens=1,
            finish_reason="stop",
            extracted=verdict.value,
            verdict=verdict,
            error=None,
        )
        for uid, verdict in verdicts.items()
    ]


@given(st.integers(0, 6), st.integers(0, 6))
def test_the_exact_test_is_the_share_of_coin_throws_at_least_as_lopsided(fixed: int, broken: int) -> None:
    throws = list(itertools.product((0, 1), repeat=fixed + broken))
    apart = abs(fixed - broken)
    extreme = sum(abs(2 * sum(throw) - len(throw)) >= apart for throw in throws)
    assert mcnemar(fixed, broken) == pytest.approx(float(Fraction(extreme, len(throws))), rel=1e-12)


def test_thousands_of_flips_are_no_matter() -> None:
    assert mcnemar(5000, 5000) == 1.0
    assert 0 < mcnemar(2700, 2300) < 1e-7


def test_flips_are_told_apart_and_what_failed_or_was_not_asked_is_counted() -> None:
    first = results({"a": RIGHT, "b": WRONG, "c": WRONG, "d": RIGHT, "e": FAILED, "f": RIGHT})
    second = results({"a": RIGHT, "b": RIGHT, "c": WRONG, "d": WRONG, "e": RIGHT, "g": RIGHT})
    [found] = compare(first, second)
    assert found.outcomes == {"fixed": 1, "broken": 1, "wrong": 1, "right": 1}
    assert found.first_accuracy and found.gain
    assert (found.unscored, found.unpaired, found.first_accuracy.n) == (1, 2, 4)
    assert (found.gain.value, found.p) == (0.0, 1.0)
    assert [(flip.uid, flip.first.verdict, flip.second.verdict) for flip in found.flips] == [
        ("b", WRONG, RIGHT),
        ("d", RIGHT, WRONG),
    ]


def test_only_first_answers_count() -> None:
    later = results({"a": WRONG}, sample=1)
    [found] = compare(results({"a": RIGHT}) + later, results({"a": RIGHT}) + later)
    assert found.first_accuracy and found.outcomes["right"] == found.first_accuracy.n == 1


def test_arms_pair_by_mode_and_reasoner_or_as_the_only_ones() -> None:
    a, b = results({"a": RIGHT}), results({"a": WRONG}, reasoner="s")
    [two_reasoners] = compare(a, b)
    assert (two_reasoners.first, two_reasoners.second) == (Arm("own", "joint", "r"), Arm("own", "joint", "s"))
    [same] = compare(a + b, b)
    assert same.first == same.second == Arm("own", "joint", "s")
    [two_modes] = compare(a, results({"a": WRONG}, "direct", None))
    assert two_modes.second == Arm("own", "direct", None)


def test_runs_with_nothing_in_common_are_refused_by_name() -> None:
    other = [row.model_copy(update={"benchmark": "wemath"}) for row in results({"a": RIGHT})]
    with pytest.raises(Incomparable, match=r"the first has own joint r, the second wemath joint r"):
        compare(results({"a": RIGHT}), other)
    with pytest.raises(Incomparable, match="nothing to compare"):
        compare(results({"a": RIGHT}), results({"b": RIGHT}))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(list(Verdict)), st.sampled_from(list(Verdict))), min_size=1, max_size=30))
def test_exchanging_the_runs_exchanges_the_result(pairs: list[tuple[Verdict, Verdict]]) -> None:
    a, b = (results({str(i): pair[side] for i, pair in enumerate(pairs)}) for side in (0, 1))
    [there], [back] = compare(a, b), compare(b, a)
    assert there.p == back.p
    assert (there.gain is None) is (back.gain is None) is (sum(there.outcomes.values()) == 0)
    if there.gain and back.gain:
        assert there.gain.value == pytest.approx(-back.gain.value)
        assert there.gain.stderr == pytest.approx(back.gain.stderr) and there.gain.stderr > 0
    assert there.outcomes["fixed"] == back.outcomes["broken"]
