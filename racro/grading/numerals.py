"""Numerals that are no digits: "twenty-one", "one hundred and five", "two thirds", 十五, 三分之二, 0.\\overline{3}.

Not the reading of a number with its unit (`racro.grading.numbers`, which calls this).
"""

from __future__ import annotations

import re
from fractions import Fraction

from racro.grading import english
from racro.grading.english import WORDS

_FIRST = re.compile(rf"(?:an?|half|quarter|{'|'.join(WORDS)})\b|[零〇一二两三四五六七八九十百]|\d+分之", re.IGNORECASE)
_IN_DIGITS_AND_WORDS = re.compile(r"\d{1,9} and |\d{1,3} [a-z]+(?:th|rd|half|halve|quarter|third)s?$", re.IGNORECASE)
_CHINESE = re.compile(r"[零〇一二两三四五六七八九十百千万亿]+")
_CHINESE_SHARE = re.compile(rf"({_CHINESE.pattern}|\d+)分之({_CHINESE.pattern}|\d+)")
_CHINESE_DECIMAL = re.compile(rf"({_CHINESE.pattern})点([零〇一二三四五六七八九]+)(?![分十])")
_CHINESE_DIGITS = dict(zip("零〇一二两三四五六七八九", (0, 0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9), strict=True))
_POWERS = {"十": 10, "百": 100, "千": 1000}
_PARTS = {"百": 100, "千": 1000, "万": 10000}
_MEASURE_WORDS = "个只条根张本件块人次元年月日天名位棵朵片双对份种辆"
_REPEATING = re.compile(r"(\d{0,20})\.(\d{0,20})\\(?:overline|bar|dot)\s?\{\s?(\d{1,20})\s?\}")
_DIGIT = re.compile(r"\d")
_SIGNED = re.compile(r"^(?:(?:minus|negative)\s(?=[\d.(a-z])|[负負](?=[\d零一二两三四五六七八九十百]))", re.IGNORECASE)


_LETTERS = re.compile(r"[a-z]+")
_IN_NUMERALS = frozenset([*WORDS, *english.SCALES])


def counts(text: str) -> bool:
    """May a text hold a number, in digits or in English words?"""
    return _DIGIT.search(text) is not None or not _IN_NUMERALS.isdisjoint(_LETTERS.findall(text.lower()))


def signed(text: str) -> str:
    """ "minus 5" as "-5"."""
    return _SIGNED.sub("-", text)


def unrepeated(text: str) -> str:
    """Decimals that repeat as quotients: "0.1\\overline{6}" as "(15)/(90)"."""

    def quotient(match: re.Match[str]) -> str:
        before, first, again = match[1] or "0", match[2], match[3]
        top = int(before + first + again) - int(before + first)
        return f"({top})/({10 ** len(first) * (10 ** len(again) - 1)})"

    return _REPEATING.sub(quotient, text)


def spelled(text: str) -> tuple[Fraction, str] | None:
    """The number that a text begins with in words, and what follows it. None for any other text."""
    in_digits = text[:1].isdigit() and text.isascii()
    if (in_digits or not _FIRST.match(text)) and not _IN_DIGITS_AND_WORDS.match(text):
        return None
    if in_english := english.spelled(text):
        return in_english
    if share := _CHINESE_SHARE.fullmatch(text):
        bottom, top = (int(part) if part.isdigit() else _PARTS.get(part) or _chinese(part) for part in share.groups())
        return (Fraction(top, bottom), "") if top is not None and bottom else None
    if (decimal := _CHINESE_DECIMAL.match(text)) and (before := _chinese(decimal[1])) is not None:
        digits = "".join(str(_CHINESE_DIGITS[char]) for char in decimal[2])
        return Fraction(f"{before}.{digits}"), text[decimal.end() :].strip()
    if match := _CHINESE.match(text):
        value, rest = _chinese(match[0]), text[match.end() :]
        if value is not None and (not rest or rest[0] in _MEASURE_WORDS or not "\u4e00" <= rest[0] <= "\u9fff"):
            return Fraction(value), rest.strip()
    return None


def _chinese(text: str) -> int | None:
    """The value of 一百零五, 两万, 二〇一九; None where the characters are no numeral."""
    if len(text) > 1 and all(char in _CHINESE_DIGITS for char in text):
        return int("".join(str(_CHINESE_DIGITS[char]) for char in text))
    for large, power in (("亿", 10**8), ("万", 10**4)):
        before, found, after = text.rpartition(large)
        if found:
            head, tail = _chinese(before) if before else None, _chinese(after) if after else 0
            return None if head is None or tail is None else head * power + tail
    total = digit = 0
    for at, char in enumerate(text):
        if char in _POWERS:
            if digit == 0 and (char != "十" or at):
                return None
            total, digit = total + (digit or 1) * _POWERS[char], 0
        else:
            if digit:
                return None
            digit = _CHINESE_DIGITS[char]
    return total + digit
