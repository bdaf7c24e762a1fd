"""Numbers as people and models write them: "1,200", "x = 5", "50 %", "3/4", "2 1/2", "1.2 x 10^3", "120°", "1.3 cm".

Exact, by fractions; no algebra (`racro.grading.symbolic`). Called by the kinds integer and float, and for the elements
of lists and sets.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from racro.grading.plain import clean
from racro.schema import Gold

DIGITS = 50
"""A number of more digits is none."""
TOLERANCE = Fraction(1, 1000)
"""Relative, for floats without a precision or a tolerance of their own."""


class Unit(NamedTuple):
    """What a unit measures, and how many of the dimension's first unit it is."""

    dimension: str
    factor: Fraction


def _table() -> dict[str, Unit]:
    factors: dict[str, dict[str, str | int]] = {
        "length": {
            "m meter meters metre metres 米": 1,
            "mm millimeter millimeters millimetre millimetres": "1/1000",
            "cm centimeter centimeters centimetre centimetres 厘米": "1/100",
            "dm decimeter decimeters decimetre decimetres": "1/10",
            "km kilometer kilometers kilometre kilometres": 1000,
            "in inch inches": "0.0254",
            "ft foot feet": "0.3048",
            "yd yard yards": "0.9144",
            "mi mile miles": "1609.344",
        },
        "mass": {"g gram grams": 1, "mg": "1/1000", "kg kilogram kilograms": 1000, "lb lbs pound pounds": "453.59237"},
        "time": {
            "s sec secs second seconds": 1,
            "min mins minute minutes": 60,
            "h hr hrs hour hours": 3600,
            "day days": 86400,
            "week weeks": 604800,
        },
        "volume": {"L l liter liters litre litres": 1, "mL ml milliliter milliliters": "1/1000"},
        "months": {"month months": 1, "yr yrs year years": 12},
        "angle": {"° deg degs degree degrees": 1},
        "radian": {"rad radian radians": 1},
        "celsius": {"°C": 1},
        "fahrenheit": {"°F": 1},
    }
    return {
        name: Unit(dimension, Fraction(factor))
        for dimension, units in factors.items()
        for names, factor in units.items()
        for name in names.split()
    }


UNITS = _table()

_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_POWER = re.compile(r"(?:(square|sq|cubic|cu)\.? )?([A-Za-z]+|°[CF]?|[米厘]+)\s?(?:\^\s?\{?\(?([23])\)?\}?)?")


def unit(text: str) -> Unit | None:
    """The unit that a text names: "cm", "square meters", "m^2", "km/h", "miles per hour"; None for another word."""
    top, per, bottom = re.sub(r"\bper\b", "/", text).partition("/")
    if per:
        above, below = unit(top), unit(bottom)
        if above is None or below is None:
            return None
        return Unit(f"{above.dimension}/{below.dimension}", above.factor / below.factor)
    match = _POWER.fullmatch(text.strip())
    if match is None:
        return None
    known = UNITS.get(match[2]) or UNITS.get(match[2].lower())
    power = _POWERS.get(match[1], int(match[3] or 1))
    return known and (known if power == 1 else Unit(f"{known.dimension}^{power}", known.factor**power))


class Number(NamedTuple):
    """A number as it was written."""

    value: Fraction
    percent: bool = False
    """Written with a percent sign, by which `value` is not divided."""
    decimals: int = 0
    """Digits after the point; 0 for fractions and powers of ten."""
    unit: Unit | None = None
    """None for none, and for a word that is no unit of measurement ("5 apples")."""


_THOUSANDS = r"[1-9]\d{0,2}(?:(?:,\d{3})+|(?: \d{3})+)(?:\.\d+)?"
_PLAIN = rf"(?:{_THOUSANDS}|\d+,\d{{1,2}}|0,\d+|\d+(?:\.\d*)?|\.\d+)"
DECIMAL = rf"{_PLAIN}(?:[eE][-+]?\d{{1,2}})?(?![\d,.]?\d)"
_INNER = r"(?:\d+(?:\.\d*)?|\.\d+)"  # "(0,9)" is a pair
_PART = rf"(?:\(\s?([-+]?)\s?({_INNER})\s?\)|({DECIMAL}))"
_NUMBER = re.compile(rf"([-+]?)\s?{_PART}(?:\s?/\s?{_PART})?")
_MIXED = re.compile(r"([-+]?)\s?(\d+)(?: (\d+)\s?/\s?(\d+)| ?\((\d+)\)/\((\d+)\))")
_LEADING = re.compile(r"(?:about|approximately|around|roughly|nearly|exactly|is|are)\s|[€£¥₹]\s?", re.IGNORECASE)
_COUNTS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
WORDS = {word: value for value, word in enumerate(_COUNTS.split())}
_ROUNDED = re.compile(r"≈|≃|\\(?:approx|simeq)(?![a-zA-Z])")
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_NOUN = re.compile(r"-?[A-Za-z]{2,}(?:[ -][A-Za-z]{2,}){0,3}|[€£¥₹]|[\u4e00-\u9fff]+")
_NO_NOUN = re.compile(
    r"\b(?:and|or|to|plus|minus|times|over|pi|e|half|halves|third|quarter|hundred|dozen|sqrt|root|more|less|than|not"
    r"|mod|factorial|squared|cubed|degree)\b",
    re.IGNORECASE,
)


def number(text: str) -> Number | None:
    """The one number that a text is: None for anything else, for two of them, and for one of more than DIGITS digits.

    A unit, a percent sign, a currency, or a few words of what is counted may follow.
    """
    exact, *rounded = _ROUNDED.split(text)
    return _number(clean(exact)) or (_number(clean(rounded[-1])) if rounded else None)


@lru_cache(4096)
def _number(text: str) -> Number | None:
    left, equals, right = text.rpartition("=")
    if equals:
        if re.search(r"[,;<>!≤≥≠]|\b(?:and|or)\b", left):
            return None  # several equations, or no equation
        text = right
    text = text.strip()
    while (leading := _LEADING.match(text)) is not None:
        text = text[leading.end() :]
    if re.match(r"[-+]\s?[€£¥₹]", text):
        text = text[0] + text[1:].lstrip(" €£¥₹")
    first, _, counted = text.partition(" ")
    if first.lower() in WORDS:
        return Number(Fraction(WORDS[first.lower()])) if not counted or _noun(counted) else None
    match = _MIXED.match(text) or _NUMBER.match(text)
    if match is None or sum(map(str.isdigit, match[0])) > DIGITS:
        return None
    value, decimals = _value(match)
    rest = text[match.end() :].strip().rstrip(".")
    if value is None:
        return None
    if not rest:
        return Number(value, False, decimals)
    if percent := re.match(r"(?:%|percent(?:age)?s?\b|pct\b)\s?", rest, re.IGNORECASE):
        return Number(value, True, decimals) if not rest[percent.end() :] or _noun(rest[percent.end() :]) else None
    scale, _, noun = rest.partition(" ")
    if scale.lower() in _SCALES:
        return Number(value * _SCALES[scale.lower()]) if not noun or _noun(noun) else None
    if known := unit(rest):
        return Number(value, False, decimals, known)
    return Number(value, False, decimals) if _noun(rest) else None


def _noun(text: str) -> bool:
    return _NOUN.fullmatch(text) is not None and not _NO_NOUN.search(text)


def _value(match: re.Match[str]) -> tuple[Fraction | None, int]:
    """Value and digits after the point of a match of `_MIXED` or `_NUMBER`."""
    sign = -1 if match[1] == "-" else 1
    if match.re is _MIXED:
        top, bottom = (int(n) for n in (match[3] or match[5], match[4] or match[6]))
        return (sign * (int(match[2]) + Fraction(top, bottom)) if bottom else None), 0
    top_text, bottom_text = match[3] or match[4], match[6] or match[7]
    value = sign * _decimal(match[2], top_text)
    if bottom_text is None:
        mantissa = re.split("e", top_text, flags=re.IGNORECASE)
        return value, 0 if len(mantissa) > 1 else len(_point(top_text).partition(".")[2])
    below = _decimal(match[5], bottom_text)
    return (value / below if below else None), 0


def _decimal(sign: str | None, text: str) -> Fraction:
    return Fraction(_point(text)) * (-1 if sign == "-" else 1)


def _point(text: str) -> str:
    """With a decimal point, and without separators of thousands."""
    if re.fullmatch(r"(?:\d+,\d{1,2}|0,\d+)", text):
        return text.replace(",", ".")
    return text.replace(",", "").replace(" ", "")


def same_number(found: Number, gold: Number, asked: Gold) -> bool:
    """Integers: equal. Floats: within the tolerance, or equal when rounded to the precision asked for.

    With neither, within TOLERANCE or equal when rounded to the gold answer's decimals. Units that are both known are
    converted; of one dimension they must be. 50 % equals 0.5 and equals 50: questions for a percentage have golds of
    both forms.
    """
    theirs, ours = found.unit, gold.unit or (asked.unit and unit(clean(asked.unit))) or None
    value = found.value
    if theirs and ours:
        if theirs.dimension != ours.dimension:
            return False
        value *= theirs.factor / ours.factor
    scales = [Fraction(1)]
    if gold.percent != found.percent:
        scales.append(Fraction(100) if gold.percent else Fraction(1, 100))
    return any(abs(value * scale - gold.value) <= _allowed(gold, asked) for scale in scales)


def _allowed(gold: Number, asked: Gold) -> Fraction:
    """How far a value may be from the gold answer's."""
    if asked.kind == "integer":
        return Fraction(0)
    if asked.tolerance is not None:
        return Fraction(asked.tolerance)
    if asked.precision is not None:
        return Fraction(1, 2 * 10**asked.precision)
    rounding = Fraction(1, 2 * 10**gold.decimals) if gold.decimals else Fraction(0)
    return max(abs(gold.value) * TOLERANCE, rounding)
