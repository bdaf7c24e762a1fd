"""Scales behind a number: "5 dozen", "1.5 million", "3bn", "2.3k", "1.5M", 万.

A capital may be a unit as well ("5 K", "0.1 M", "2 T"): such a number has two readings (`racro.grading.numbers`).
"""

from __future__ import annotations

import re

from racro.grading.english import SCALES

_SHORT = {"bn": "billion", "mn": "million", "tn": "trillion"}
_NAMED = {
    **SCALES,
    **{"百": 10**2, "千": 10**3, "万": 10**4, "亿": 10**8},
    **{short: SCALES[name] for short, name in _SHORT.items()},
}
NAMED = (
    rf"(?:(?:{'|'.join(SCALES)}|dozens|(?-i:[Bb]n|mn|tn))(?![a-z])"
    r"|[万亿]|[百千](?![米克瓦帕焦伏卡]))"
)
_NAMED_SCALE = re.compile(rf"({NAMED})\s?", re.IGNORECASE)
LETTERS = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
LETTER = r"[kKMBT](?![\w/^°'])"
_LETTER_SCALE = re.compile(rf"({LETTER}|\s[KMB](?![\w/^°']))\s?")
_OF_MONEY = re.compile(r"([kKmMBT])(?![A-Za-z])\s?")
_ASKED = re.compile(
    rf"\bhow (?:many|much) ({'|'.join(SCALES)}) |\bin (?:units of )?({'|'.join(SCALES)})s?\b", re.IGNORECASE
)
_SHORTENED = re.compile(r"[-+]?[$€£¥₹]?\d[\d.,]*(?:([kKMBT])|\s?([bmt]n))")


def named(text: str) -> tuple[int, str] | None:
    """The scale that a text begins with, of several their product, and what follows: "million people"."""
    scale, at = 1, 0
    while found := _NAMED_SCALE.match(text, at):
        name = found[1].lower()
        scale, at = scale * _NAMED[name if name in _NAMED else name.removesuffix("s")], found.end()
    return (scale, text[at:]) if at else None


def letter(text: str, money: bool = False) -> tuple[int, str] | None:
    """The scale of a single letter right behind a number, and what follows it: "k views". Of money "m" is one too."""
    if found := (_OF_MONEY if money else _LETTER_SCALE).match(text):
        return LETTERS["M" if found[1] == "m" else found[1].strip()], text[found.end() :]
    return None


def shortened(text: str, question: str) -> bool:
    """Is a text a number with a scale of one letter or two, and no product of letters in the question: "5k", "3bn"?"""
    found = _SHORTENED.fullmatch(text)
    return found is not None and not all(
        re.search(rf"(?<![A-Za-z\\]){letter}(?![A-Za-z])", question) for letter in found[1] or found[2]
    )


def without_asked(text: str, question: str) -> str:
    """A text without the scale that its question asks in: "5" of "5 dozen" where "how many dozen" is asked."""
    asked = _ASKED.search(question)
    if asked is None:
        return text
    name = (asked[1] or asked[2]).lower()
    short = "|".join(letter for letter, scale in LETTERS.items() if scale == SCALES[name])
    return re.sub(rf"\s?\b{name}s?\b|(?<=\d)\s?(?:{short or '(?!)'})\b", "", text, flags=re.IGNORECASE)
