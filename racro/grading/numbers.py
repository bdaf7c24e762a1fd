"""Numbers as people and models write them: "1,200", "x = 5", "50 %", "3/4", "2 1/2", "1.2 x 10^3", "120°", "1.3 cm".

Exact, by fractions; no algebra (`racro.grading.symbolic`). Called by the kinds integer and float, and for the elements
of lists and sets.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from racro.grading import east_asian, english, numerals, scales
from racro.grading.plain import clean
from racro.grading.units import Readings, converted, recased, unit

DIGITS = 50
"""A number of more digits is none."""


class Number(NamedTuple):
    """A number as it was written."""

    value: Fraction
    percent: bool = False
    """Written with a percent sign, by which `value` is not divided."""
    decimals: int = 0
    """Digits after the point; 0 for fractions and powers of ten."""
    units: Readings = ()
    """Empty for none, and for a word that is no unit of measurement ("5 apples")."""
    rounded: bool = False
    """Written with a decimal point or a power of ten, and so perhaps not exact."""
    following: str = ""
    """What stands after the number, a percent sign aside."""
    scaled: tuple[Number, ...] = ()
    """The other reading, where the letter behind the number may be a scale: of "1.5M" 1,500,000."""


_ROUNDING = re.compile(r"[.eE]|\d,\d{1,2}(?!\d)")
_THOUSANDS = r"[1-9]\d{0,2}(?:(?:,\d{3})+|(?: \d{3})+)(?:\.\d+)?"
_PLAIN = rf"(?:{_THOUSANDS}|\d+,\d{{1,2}}|0,\d+|\d+(?:\.\d*)?|\.\d+)"
DECIMAL = rf"{_PLAIN}(?:[eE][-+]?\d{{1,2}})?(?![\d,.]?\d)"
_INNER = r"(?:\d+(?:\.\d*)?|\.\d+)"  # "(0,9)" is a pair
_PART = rf"(?:\(\s?([-+]?)\s?({_INNER})\s?\)|({DECIMAL}))"
_NUMBER = re.compile(rf"([-+]?)\s?{_PART}(?:\s?/\s?{_PART})?")
_MIXED = re.compile(r"([-+]?)\s?(\d+)(?: (\d+)\s?/\s?(\d+)| ?\((\d+)\)/\((\d+)\))")
_LEADING = re.compile(
    r"(?:about|approximately|around|roughly|nearly|exactly|is|are)\s|(?:是|为|约|共|大约)(?=[-\d])|(?:#|№|no\.)\s?(?=\d)",
    re.IGNORECASE,
)
_PAID = re.compile(r"(?:([-+])\s?)?(?:US)?([$€£¥₹]|(?:USD|EUR|GBP|CNY|RMB|INR)\b)\s?([-+])?")
_IN_WORDS = re.compile(
    rf"minus|negative|an?\b|half|quarter|(?:US)?[$]|(?:USD|EUR|GBP|CNY|RMB|INR)\b|{'|'.join(english.WORDS)}",
    re.IGNORECASE,
)
"""What a number begins with that begins with a letter."""
_RATE = re.compile(r"^(?!\s?(?:/|per\b)).*|(.+)", re.DOTALL)
_ROUNDED = re.compile(r"≈|≃|\\(?:approx|simeq)(?![a-zA-Z])")
_PERCENT = re.compile(r"(?:%|per\s?cent(?:age)?s?\b|pct\b)\s?", re.IGNORECASE)
_LONGER = re.compile(rf"(?:([A-Za-z°]{{1,12}}\.?),?\s(?:and\s)?|(')\s?)((?:\d|{english.ENGLISH}).*)", re.IGNORECASE)
_ONE = re.compile(r"an? (?=[a-z])", re.IGNORECASE)
_AND_A_PART = re.compile(rf"([A-Za-z]+) and ({english.SHARE})", re.IGNORECASE)
_ARC = re.compile(r"°\s?(?=\d)|(?<=\d)\s?(?:(''|\")|')\s?")
_NOUN = re.compile(r"-?[A-Za-z]{2,}(?:[ -][A-Za-z]{2,}){0,3}|[€£¥₹]|[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3]+")
_NO_NOUN = re.compile(
    r"\b(?:and|or|to|plus|minus|times|over|pi|e|half|halves|third|quarter|sqrt|root|more|less|fewer|below|but|than|not"
    rf"|past|after|out|{'|'.join(english.SCALES)}|mod|factorial|squared|cubed|degree)\b",
    re.IGNORECASE,
)


_EITHER = re.compile(r"±|\\pm(?![a-zA-Z])")


def number(text: str) -> Number | None:
    """The one number that a text is: None for anything else, for two of them, and for one of more than DIGITS digits.

    A unit, a percent sign, a currency, or a few words of what is counted may follow.
    """
    if text.isascii() and "\\" not in text:
        return _number(clean(text))
    if _EITHER.search(text):
        return None
    exact, *rounded = _ROUNDED.split(numerals.unrepeated(text) if "\\" in text else text)
    return _number(clean(exact)) or (_number(clean(rounded[-1])) if rounded else None)


_UNSOLVED = re.compile(r"(?!\w$)[-+]?[\d.]*\*?[a-zA-Z](?:\^\{?\d\}?)?(?:[-+*/][\d.]+)?")
"""The side of an equation that is not solved yet: "2x", "x^2", "x+1"."""


@lru_cache(4096)
def _number(text: str) -> Number | None:
    left, equals, right = text.rpartition("=")
    if equals:
        if re.search(r"[,;<>!≤≥≠]|\b(?:and|or)\b", left):
            return None  # several equations, or no equation
        if _UNSOLVED.fullmatch(left.replace(" ", "")):
            return None
        text = right
    text = text.strip()
    if "°" in text and text[-1:] in "'\"":
        text = _ARC.sub(lambda mark: "° " if mark[0][0] == "°" else " arcsec " if mark[1] else " arcmin ", text).strip()
    while (leading := _LEADING.match(text)) is not None:
        text = text[leading.end() :]
    if text[:1].isalpha():
        if text.isascii() and not _IN_WORDS.match(text):
            return None  # most texts
        text = numerals.signed(text)
    paid = _PAID.match(text)
    if paid is None:
        return _counted(text)
    found = _counted((paid[1] or paid[3] or "") + text[paid.end() :], paid[2])
    return found and found._replace(units=unit(paid[2] + _RATE.sub(r"\1", found.following)) or unit(paid[2]))


def _counted(text: str, currency: str = "") -> Number | None:
    """A number and what follows it."""
    sign = text[:1] == "-"
    if in_words := numerals.spelled(text[sign:]):
        return _followed(in_words[0] * (-1 if sign else 1), 0, in_words[1])
    if text[:1] in ("a", "A") and (one := _ONE.match(text)):
        found = _followed(Fraction(1), 0, text[one.end() :])
        return found if found and found.units else None
    match = _MIXED.match(text) or _NUMBER.match(text)
    if match is None or (len(match[0]) > DIGITS and sum(map(str.isdigit, match[0])) > DIGITS):
        return None
    value, decimals = _value(match)
    if value is None:
        return None
    rounded = bool(_ROUNDING.search(match[0]))
    after = text[match.end() :].rstrip(" .")
    rest = after.strip()
    if currency and (short := scales.letter(rest, money=True)):
        found = _followed(value * short[0], 0, short[1])
    elif after and (short := scales.letter(after)):
        larger = _followed(value * short[0], 0, short[1])
        found = _followed(value, decimals, rest)
        if larger is not None:
            found = (found or larger._replace(following=rest))._replace(scaled=(larger,))
    else:
        found = _followed(value, decimals, rest)
    return found and found._replace(rounded=rounded)


def _followed(value: Fraction, decimals: int, rest: str) -> Number | None:
    if not rest:
        return Number(value, False, decimals)
    if percent := _PERCENT.match(rest):
        rest = rest[percent.end() :]
        return Number(value, True, decimals, following=rest) if not rest or noun(rest) else None
    if scale := scales.named(rest):
        value, decimals, rest = value * scale[0], 0, scale[1]
        if rest == "and a half":
            return Number(value + Fraction(scale[0], 2))
        if not rest:
            return Number(value)
    if known := unit(rest) or recased(rest):
        return Number(value, False, decimals, known, following=rest)
    if half := _AND_A_PART.fullmatch(rest):
        part = numerals.spelled(half[2])
        return Number(value + part[0], units=unit(half[1]), following=half[1]) if part and unit(half[1]) else None
    if both := _LONGER.match(rest):
        large, small = Number(value, False, decimals, unit(both[1] or both[2]), following=rest), _number(both[3])
        if small and not small.following and both[2]:
            small = small._replace(units=unit('"'))  # 5'11
        return _sum(large, small)
    first, words = _first(rest)
    return Number(value, False, decimals, first, following=rest) if noun(words) else None


def _first(text: str) -> tuple[Readings, str]:
    """The unit that words begin with, as in "cm long", and the other words; "in" is none there."""
    words = text.split()
    for length in range(min(3, len(words) - 1), 0, -1):
        if words[0] != "in" and (known := unit(" ".join(words[:length]))):
            return known, " ".join(words[length:])
    return (), text


def _sum(large: Number, small: Number | None) -> Number | None:
    """One quantity of two, as "1 h 30 min"."""
    if small is None or not large.units or not small.units:
        return None
    found = converted(small.value, small.units, large.units)
    if not found or set(small.units) & set(large.units) or not 0 <= found[0].value < 1:
        return None
    units = next((our,) for their in small.units for our in large.units if our.measures == their.measures)
    return large._replace(value=large.value + found[0].value, units=units)


def noun(text: str) -> bool:
    """Is a text a few words for what is counted?"""
    if not text.isascii() and east_asian.NO_VALUE.search(text):
        return False
    return _NOUN.fullmatch(text) is not None and not _NO_NOUN.search(text)


def _value(match: re.Match[str]) -> tuple[Fraction | None, int]:
    """Value and digits after the point of a match of `_MIXED` or `_NUMBER`."""
    sign = -1 if match[1] == "-" else 1
    if match.re is _MIXED:
        top, bottom = (int(n) for n in (match[3] or match[5], match[4] or match[6]))
        return (sign * (int(match[2]) + Fraction(top, bottom)) if bottom else None), 0
    top_text, bottom_text = match[3] or match[4], match[6] or match[7]
    value = _decimal(match[2], top_text)
    value = -value if sign < 0 else value
    if bottom_text is None:
        mantissa = re.split("e", top_text, flags=re.IGNORECASE)
        return value, 0 if len(mantissa) > 1 else len(_point(top_text).partition(".")[2])
    below = _decimal(match[5], bottom_text)
    return (value / below if below else None), 0


def _decimal(sign: str | None, text: str) -> Fraction:
    whole, _, part = _point(text).partition(".")
    if (whole + part).isdecimal():
        value = Fraction(int(whole + part), 10 ** len(part)) if part else Fraction(int(whole))
    else:
        value = Fraction(_point(text))
    return -value if sign == "-" else value


_COMMA = re.compile(r"\d+,\d{1,2}|0,\d+")


def _point(text: str) -> str:
    """With a decimal point, and without separators of thousands."""
    if "," in text and _COMMA.fullmatch(text):
        return text.replace(",", ".")
    return text.replace(",", "").replace(" ", "")


def attached(read: Number, text: str) -> bool:
    """Does a letter, or a product of letters, stand right behind a number, "5m" or "2ab"? They may be variables."""
    letter = read.following
    if len(letter) == 1:
        return letter.isalpha() and re.search(rf"\d{letter}", text) is not None
    return monomial(text)


_MONOMIAL = re.compile(
    r"[-+]?(?:\d+(?:\.\d+)?|\d+/\d+|\(\d+\)/\(\d+\))(?!(?:st|nd|rd|th|am|pm|bc|ad|ce|pcs|pts|men)$)([a-z]{2,3})"
)


def monomial(text: str) -> bool:
    """Is a text a number and a product of letters that are no unit: "2ab"?"""
    found = _MONOMIAL.fullmatch(clean(text))
    return found is not None and not (unit(found[1]) or recased(found[1]))
