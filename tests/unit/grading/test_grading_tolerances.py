"""Tolerances are relative; absolute only where the gold answer says so; zero is equal to zero alone."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racro.grading import equal
from racro.schema import AnswerKind, Gold

exponents = st.integers(-40, 40).filter(bool)
mantissas = st.integers(11, 99).map(lambda n: n / 10)
KINDS: tuple[AnswerKind, ...] = ("float", "expression")


@settings(deadline=None)
@given(mantissas, mantissas, exponents, exponents, st.sampled_from(KINDS))
def test_numbers_of_any_size_are_told_apart(
    one: float, other: float, power: int, other_power: int, kind: AnswerKind
) -> None:
    same = (one, power) == (other, other_power)
    for gold in (rf"{one} \times 10^{{{power}}}", f"{one}e{power}"):
        for found in (rf"{other} \times 10^{{{other_power}}}", f"{other}e{other_power}"):
            assert equal(found, Gold(gold, kind)) is same
    for list_kind in ("list", "set"):
        gold = f"[{one}e{power}, 7]" if list_kind == "list" else f"{one}e{power}, 7"
        assert equal(f"{other}e{other_power}, 7", Gold(gold, list_kind)) is same  # type: ignore[arg-type]


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_fractions_are_equal_or_not(one: int, other: int) -> None:
    assert equal(f"1/{other}", Gold(f"1/{one}", "expression")) is (one == other)
    assert equal(f"\\frac{{1}}{{{other}}}", Gold(f"1/{one}, 2", "set")) is False


@given(st.integers(-(10**12), 10**12), st.sampled_from(["integer", "expression"]))
def test_another_integer_is_another_answer(value: int, kind: AnswerKind) -> None:
    assert equal(str(value), Gold(str(value), kind))
    assert not equal(str(value + 1), Gold(str(value), kind))


@pytest.mark.parametrize("zero", ["0", "0.0", "0.00"])
@pytest.mark.parametrize("other", ["1e-9", "0.000001", r"10^{-30}", "1/5000000", "5e-324"])
@pytest.mark.parametrize("kind", ["float", "expression"])
def test_only_zero_is_zero(zero: str, other: str, kind: AnswerKind) -> None:
    assert equal("0", Gold(zero, kind))
    assert not equal(other, Gold(zero, kind)) and not equal(zero, Gold(other, kind))


@settings(deadline=None)
@given(st.integers(1, 10**6), st.integers(2, 10**6))
def test_six_digits_stand_for_a_fraction(top: int, bottom: int) -> None:
    exact = Fraction(top, bottom)
    assert equal(f"{float(exact):.7g}".replace("e-0", "e-"), Gold(f"{top}/{bottom}", "expression"))
    assert not equal(f"{float(exact) * 1.0001:.9g}".replace("e-0", "e-"), Gold(f"{top}/{bottom}", "expression"))


@pytest.mark.parametrize("kind", ["list", "set"])
def test_a_tolerance_of_the_gold_holds_for_every_value(kind: AnswerKind) -> None:
    gold = Gold("[1.5, 2.5]" if kind == "list" else "1.5, 2.5", kind, tolerance=0.05)
    assert equal("1.54, 2.46", gold) and not equal("1.56, 2.5", gold)
    assert equal("1.54, 2.46", gold._replace(tolerance=None, precision=1))
    assert not equal("1.5001, 2.5", gold._replace(tolerance=None))


@pytest.mark.parametrize(
    ("gold", "found", "right"),
    [
        (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}", False),
        (r"\frac{1}{2^{99}}", r"2^{-99}", True),
        (r"10^{-19}x + 1", r"10^{-20}x + 1", False),
        (r"x = 10^{-19}", r"x = 10^{-20}", False),
        (r"(0, 10^{-9})", r"(0, 10^{-8})", False),
        (r"x < 10^{-9}", r"x < 10^{-8}", False),
        (r"\begin{pmatrix}10^{-9}\\1\end{pmatrix}", r"\begin{pmatrix}10^{-8}\\1\end{pmatrix}", False),
        (r"e^{-50}", r"e^{-51}", False),
        (r"\sqrt{2}", "1.414214", True),
        (r"\sqrt{2}", "1.4143", False),
        (r"(\sqrt{2}-1)(\sqrt{2}+1)", "1", True),
        (r"\infty", r"-\infty", False),
        (r"0.5x + 1", r"\frac{x}{2} + 1", True),
    ],
)
def test_algebra_is_compared_relatively(gold: str, found: str, right: bool) -> None:
    assert equal(found, Gold(gold, "expression")) is right
    assert equal(gold, Gold(found, "expression")) is right
