"""Numbers in English words: "twenty-one", "two thousand and five", "two thirds", "three point five", "twenty-first".

Not the reading of a number with its unit (`racro.grading.numbers`). Called by `racro.grading.numerals`.
"""

from __future__ import annotations

import re
from fractions import Fraction

_COUNTS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
)
WORDS = {word: at if at <= 20 else 10 * (at - 18) for at, word in enumerate(_COUNTS.split())}
LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
SCALES = {"dozen": 12, "hundred": 100, **LARGE}
_DIGITS, _TENS = list(WORDS)[1:10], list(WORDS)[20:]
BELOW_100 = rf"(?:(?:{'|'.join(_TENS)})[ -](?:{'|'.join(_DIGITS)})|{'|'.join(sorted(WORDS, key=len, reverse=True))})\b"
_SCALE, _LARGE = ("|".join(scales) for scales in (SCALES, LARGE))
_HUNDREDS = rf"(?: hundred\b(?:(?: and)? {BELOW_100})?)?"
_MAY_BEGIN = r"(?=[aefnostz])(?=an? |on|tw|th[ir]|fo|fi|si|se|ei|ni|te|el|ze)"
"""A look at the first letters, which ends most attempts at once."""
ENGLISH = (
    rf"{_MAY_BEGIN}(?:an?(?= (?:{_SCALE})\b)|{BELOW_100}){_HUNDREDS}"
    rf"(?: (?:{_LARGE})\b(?:(?:,? and|,)? {BELOW_100}{_HUNDREDS}(?: (?:{_LARGE})\b)?){{0,4}})?"
)
"""A whole number in words; "a" is one before a scale."""

_ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth"
)
_LOW = _ORDINALS.split()
ORDINALS = {
    **dict(enumerate(_LOW, 1)),
    **{WORDS[ten]: ten[:-1] + "ieth" for ten in _TENS},
    **{WORDS[ten] + at: f"{ten} {low}" for ten in _TENS for at, low in enumerate(_LOW[:9], 1)},
}
ORDINAL = rf"(?:{'|'.join(sorted(ORDINALS.values(), key=len, reverse=True)).replace(' ', '[ -]')})"

_SHARES = {name: rank for rank, name in ORDINALS.items() if rank > 2 and " " not in name}
_SHARES |= {"hundredth": 100, "thousandth": 1000, "half": 2, "halve": 2, "quarter": 4}
_PARTS = "|".join(_SHARES)
SHARE = rf"(?:(?:(?:{ENGLISH}|\d{{1,3}}|an?)[ -])(?:{_PARTS})s?|half|quarter)\b"
"""A part of one: "two thirds", "5 eighths", "half"."""
_MIXED = re.compile(rf"(\d{{1,9}}|{ENGLISH}) and ({SHARE}|\d{{1,3}}/[1-9]\d{{0,2}}\b)", re.IGNORECASE)
_PART_OF = re.compile(rf"({SHARE})(?: of)?(?: (?:an?|one))? (?=[a-z])", re.IGNORECASE)
IN_PROSE = rf"(?:{ENGLISH}(?: and {SHARE})?|half(?: an?)?(?= (?:{_SCALE})\b))"
"""A number in words, also "two and a half", and "half a" before a dozen."""
_DIGIT = rf"(?:{'|'.join(['zero', *_DIGITS])})\b"
_POINT = re.compile(rf"({ENGLISH}) point ({_DIGIT}(?: {_DIGIT})*)", re.IGNORECASE)
_SCORES = re.compile(rf"({'|'.join(_DIGITS[1:])}) ?score(?: and ({BELOW_100}))?", re.IGNORECASE)
_NUMERAL = re.compile(rf"({ENGLISH})(?!-[a-z])", re.IGNORECASE)
_WHOLE_SHARE = re.compile(SHARE, re.IGNORECASE)


def spelled(text: str) -> tuple[Fraction, str] | None:
    """The number that a text begins with in words, and what follows it."""
    if share := _WHOLE_SHARE.fullmatch(text):
        return _share(share[0]), ""
    if (both := _MIXED.match(text)) and (count := whole(both[1])) is not None:
        part = Fraction(both[2]) if "/" in both[2] else _share(both[2])
        return (count + part, text[both.end() :].lstrip(" ")) if part < 1 else None
    if part_of := _PART_OF.match(text):
        return _share(part_of[1]), text[part_of.end() :]
    if decimal := _POINT.match(text):
        digits = "".join(str(WORDS[word]) for word in decimal[2].lower().split())
        return Fraction(f"{whole(decimal[1])}.{digits}"), text[decimal.end() :].lstrip(" ")
    if scores := _SCORES.fullmatch(text):
        return Fraction(20 * WORDS[scores[1].lower()] + (whole(scores[2]) or 0 if scores[2] else 0)), ""
    if (match := _NUMERAL.match(text)) and (value := whole(match[1])) is not None:
        return Fraction(value), text[match.end() :].lstrip(" ")
    return None


def whole(text: str) -> int | None:
    """The value of a whole number in words or digits; None where its scales rise: "two thousand, one million"."""
    if text.isdigit():
        return int(text)
    total, current, last = 0, 0, 10**15
    for word in re.findall(r"[a-z]+", text.lower()):
        if word in LARGE:
            if LARGE[word] >= last:
                return None
            total, current, last = total + current * LARGE[word], 0, LARGE[word]
        elif word == "hundred":
            current *= 100
        else:
            current += 1 if word in ("a", "an") else WORDS.get(word, 0)
    return total + current


def _share(text: str) -> Fraction:
    count, _, part = re.sub(r"[ -](?=\w+$)", "\n", text.lower()).rpartition("\n")
    bottom = _SHARES.get(part) or _SHARES[part[:-1]]
    return Fraction(whole(count) or 1, bottom) if count not in ("", "a", "an") else Fraction(1, bottom)
