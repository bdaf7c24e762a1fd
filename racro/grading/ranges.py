"""Ranges of two numbers: "10-20", "10 to 20 cm", "between 10 and 20", "from 1990 to 2000".

Not intervals of solutions (`racro.grading.solutions`). The smaller number stands first; other texts are none: "20-10"
is a difference. Called by `racro.grading.grader`.
"""

from __future__ import annotations

import re
from fractions import Fraction

from racro.grading.plain import clean

_VALUE = r"([$€£]?)(\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?)\s?"
_JOINED = re.compile(r"-|\b(?:to|and|through|until)\b", re.IGNORECASE)
_BEGINNING = re.compile(r"(?:between\s|from\s)?[$€£]?\d", re.IGNORECASE)
_UNIT = r"([%°]?(?:[A-Za-z]{1,12}(?: [a-z]{2,12})?)?)"
_RANGE = re.compile(
    rf"(?:(between)\s|from\s)?{_VALUE}{_UNIT}\s?(?:(?<=[\s\w%°])(-|to\b|and\b|through\b|until\b))\s?{_VALUE}{_UNIT}",
    re.IGNORECASE,
)


def same_range(found: str, answer: str) -> bool | None:
    """Are two texts the same range? None where one of them is none."""
    if (ours := spread(answer)) is None or (theirs := spread(found)) is None:
        return None
    return ours[:2] == theirs[:2] and (ours[2] == theirs[2] or not ours[2] or not theirs[2])


def spread(text: str) -> tuple[Fraction, Fraction, str] | None:
    """Where a range begins and ends, and its unit as it is written."""
    plain = clean(text)
    if not _BEGINNING.match(plain) or not _JOINED.search(plain):
        return None  # most texts
    match = _RANGE.fullmatch(plain) if text[-1:].isalnum() or text[-1:] in "%°." else None
    if match is None or (match[1] is None) == (match[5].lower() == "and"):
        return None
    low, high = (Fraction(value.replace(",", "")) for value in (match[3], match[7]))
    units = {unit.strip().lower() for unit in (match[2], match[4], match[6], match[8]) if unit.strip()}
    return (low, high, next(iter(units), "")) if low < high and len(units) <= 1 else None
