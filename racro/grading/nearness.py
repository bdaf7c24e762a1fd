"""Are two numbers the same: with their units, in percent, and as near as the gold answer asks?

Exact, by fractions. Not the reading of a number (`racro.grading.numbers`).
"""

from __future__ import annotations

import re
from fractions import Fraction

from racro.grading.directions import opposed
from racro.grading.numbers import Number
from racro.grading.plain import clean
from racro.grading.units import converted, unit
from racro.schema import Gold

TOLERANCE = Fraction(1, 1000)
"""Relative, for floats without a precision or a tolerance of their own."""


def same_number(found: Number, gold: Number, asked: Gold) -> bool:
    """Integers: equal. Floats: within the tolerance, or equal when rounded to the precision asked for.

    With neither, within TOLERANCE or equal when rounded to the gold answer's decimals. Zero is equal to zero alone,
    where no tolerance is asked for. Units that are both known are converted; of one dimension they must be. 50 % equals
    0.5 and equals 50: questions for a percentage have golds of both forms.
    """
    if (found.scaled or gold.scaled) and any(
        same_number(*pair, asked) for pair in _rescaled(found, gold, asked.answer)
    ):
        return True
    if opposed(found.following, gold.following):
        return False
    ours = gold.units or (unit(clean(asked.unit)) if asked.unit else ())
    if found.units and ours:
        values = converted(found.value, found.units, ours)
        return any(_near(value, gold, asked, rounding) for value, rounding in values)
    if (found.percent and ours) or (gold.percent and found.units):
        return False
    if _near(found.value, gold, asked):
        return True
    scale = Fraction(100) if gold.percent else Fraction(1, 100)
    return gold.percent != found.percent and _near(found.value * scale, gold, asked)


def _rescaled(found: Number, gold: Number, answer: str) -> list[tuple[Number, Number]]:
    """Other readings of two numbers, by letters that may be scales; a scale is none beside a unit of measurement."""

    def may_be(one: Number, other: Number) -> bool:
        return not other.units or not converted(one.value, one.units, other.units)

    pairs = [(one, gold) for one in found.scaled if may_be(found, gold)]
    if not _SHORTENED.search(answer):  # "0.1 M" is molar
        return pairs
    return pairs + [(found._replace(scaled=()), one) for one in gold.scaled if may_be(gold, found)]


_SHORTENED = re.compile(r"\d[A-Za-z]")


def _near(value: Fraction, gold: Number, asked: Gold, rounding: Fraction = Fraction(0)) -> bool:
    if value == gold.value:
        return True
    allowed = _allowed(gold, asked)
    return abs(value - gold.value) <= (max(allowed, abs(gold.value) * rounding) if rounding else allowed)


def _allowed(gold: Number, asked: Gold) -> Fraction:
    """How far a value may be from the gold answer's."""
    if asked.kind == "integer":
        return Fraction(0)
    if asked.tolerance is not None:
        return Fraction(asked.tolerance)
    if asked.precision is not None:
        return Fraction(1, 2 * 10**asked.precision)
    rounding = Fraction(1, 2 * 10**gold.decimals) if gold.decimals and gold.value else Fraction(0)
    return max(abs(gold.value) * TOLERANCE, rounding)
