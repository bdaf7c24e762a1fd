"""Numerals that are no digits: "twenty-one", "one hundred and five", "two thirds", 十五, 三分之二, 0.\\overline{3}.

Not the reading of a number with its unit (`racro.grading.numbers`, which calls this).
"""

from __future__ import annotations

import re
from fractions import Fraction

_COUNTS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
)
WORDS = {word: at if at <= 20 else 10 * (at - 18) for at, word in enumerate(_COUNTS.split())}
_DIGITS, _TENS = "|".join(list(WORDS)[1:10]), "|".join(list(WORDS)[20:])
_BELOW_100 = rf"(?:(?:{_TENS})[ -](?:{_DIGITS})|{'|'.join(sorted(WORDS, key=len, reverse=True))})"
ENGLISH = rf"(?:(?:an?|{_DIGITS}) hundred(?:(?: and)? {_BELOW_100})?|{_BELOW_100})\b"
"""A whole number below a thousand, in words."""
_ENGLISH = re.compile(rf"({ENGLISH})(?!-[a-z])", re.IGNORECASE)
_FIRST_TO_TWELFTH = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
ORDINALS = dict(enumerate(_FIRST_TO_TWELFTH.split(), 1))
_SHARES = dict(
    zip(["third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"], range(3, 11), strict=True)
)
_SHARES |= {"half": 2, "halve": 2, "quarter": 4}
_SHARE = re.compile(rf"(?:({ENGLISH}|an?)[ -])?({'|'.join(_SHARES)})s?", re.IGNORECASE)
_WITH_SHARE = re.compile(r"(.+?) and (an? .+|\S+[ -]\S+|\d+/\d+)", re.IGNORECASE)
_FIRST = re.compile(rf"(?:an?|half|{'|'.join(WORDS)})\b|[零〇一二两三四五六七八九十百]|\d+分之", re.IGNORECASE)
_CHINESE = re.compile(r"[零〇一二两三四五六七八九十百千万亿]+")
_CHINESE_SHARE = re.compile(rf"({_CHINESE.pattern}|\d+)分之({_CHINESE.pattern}|\d+)")
_CHINESE_DIGITS = dict(zip("零〇一二两三四五六七八九", (0, 0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9), strict=True))
_POWERS = {"十": 10, "百": 100, "千": 1000}
_MEASURE_WORDS = "个只条根张本件块人次元年月日天名位棵朵片双对份种辆"
_REPEATING = re.compile(r"(\d{0,20})\.(\d{0,20})\\(?:overline|bar|dot)\s?\{\s?(\d{1,20})\s?\}")
_DIGIT = re.compile(r"\d")
_SIGNED = re.compile(r"^(?:(?:minus|negative)\s(?=[\d.(a-z])|[负負](?=[\d零一二两三四五六七八九十百]))", re.IGNORECASE)


_LETTERS = re.compile(r"[a-z]+")
_IN_NUMERALS = frozenset([*WORDS, "hundred"])


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
    if not _FIRST.match(text) and not (text[:1].isdigit() and " and " in text):
        return None
    if share := _share(text):
        return share, ""
    if both := _WITH_SHARE.fullmatch(text):
        whole, part = spelled(both[1]) or _digits(both[1]), _share(both[2]) or _quotient(both[2])
        if whole is not None and part is not None and not whole[1] and part < 1:
            return whole[0] + part, ""
    if match := _ENGLISH.match(text):
        return Fraction(_english(match[1].lower())), text[match.end() :].lstrip(" ")
    if match := _CHINESE.match(text):
        value, rest = _chinese(match[0]), text[match.end() :]
        if value is not None and (not rest or rest[0] in _MEASURE_WORDS or not "\u4e00" <= rest[0] <= "\u9fff"):
            return Fraction(value), rest.strip()
    return None


def _digits(text: str) -> tuple[Fraction, str] | None:
    return (Fraction(text), "") if re.fullmatch(r"\d{1,9}", text) else None


def _quotient(text: str) -> Fraction | None:
    top, over, bottom = text.partition("/")
    return Fraction(int(top), int(bottom)) if over and top.isdigit() and bottom.isdigit() and int(bottom) else None


def _share(text: str) -> Fraction | None:
    """The value of "half", "three quarters", 三分之二."""
    if match := _SHARE.fullmatch(text):
        count = match[1].lower() if match[1] else "a"
        return Fraction(1 if count in ("a", "an") else _english(count), _SHARES[match[2].lower()])
    if match := _CHINESE_SHARE.fullmatch(text):
        bottom, top = (int(part) if part.isdigit() else _chinese(part) for part in match.groups())
        return Fraction(top, bottom) if top is not None and bottom else None
    return None


def _english(words: str) -> int:
    hundreds, hundred, rest = words.partition(" hundred")
    if not hundred:
        return sum(WORDS[word] for word in re.split(r"[ -]", words))
    below = rest.strip().removeprefix("and ")
    return 100 * WORDS.get(hundreds, 1) + (_english(below) if below else 0)


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
