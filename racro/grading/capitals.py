"""Unit symbols written small: "12 v" for 12 V, "5000 w" for 5 kW, where the gold answer measures the same.

Only for symbols that are a capital letter, and whose small letter is no unit: "3 h" is three hours. Called by
`racro.grading.grader` at its door; a text without a gold answer cannot be read so, because in an expression "v" is a
variable.
"""

from __future__ import annotations

import re
from functools import lru_cache

from racro.grading.numbers import number
from racro.grading.plain import clean
from racro.grading.units import recased, unit
from racro.schema import Gold

_SYMBOLS = "VAWNJCFK"
_SMALL = re.compile(
    rf"(\d(?:\s|~|\\[ ,;:!])?(?:\\(?:text|mathrm)\s?\{{\s?)?)([{_SYMBOLS.lower()}])(?=[.,;:!?]?(?:[\s*}}<$]|$))"
)


def with_capitals(text: str, gold: Gold) -> str:
    """A text with a capital for the small letter behind a number, where that is a unit of the gold answer's kind."""
    if gold.kind not in ("integer", "float"):
        return text
    read = number(gold.answer)
    measured_in = read.following if read and read.units else gold.unit
    if not measured_in or not (symbols := _symbols(measured_in)):
        return text
    return _SMALL.sub(lambda small: small[1] + (small[2].upper() if small[2].upper() in symbols else small[2]), text)


@lru_cache(1024)
def _symbols(measured_in: str) -> frozenset[str]:
    """The symbols that measure what a unit does."""
    measures = {reading.measures for reading in unit(clean(measured_in)) or recased(measured_in)}
    return frozenset(symbol for symbol in _SYMBOLS if measures & {reading.measures for reading in unit(symbol)})
