"""Ordinals and what they count: "third", "21st", "the third floor"; "week 3" for "the third week".

Not numbers of things ("3 weeks") and not parts ("a third"). Called by `racro.grading.words` and `racro.grading.grader`.
"""

from __future__ import annotations

import re
from functools import lru_cache

from racro.grading.english import ENGLISH, ORDINAL, ORDINALS, SCALES, WORDS, whole

_NAMES = {name: rank for rank, name in ORDINALS.items()}
_RANK = rf"(?:(?P<name>{ORDINAL})|(?P<digits>\d{{1,4}})(?:st|nd|rd|th))\b"
_ROMANS = "i ii iii iv v vi vii viii ix x xi xii"
_ROMAN = {name: at for at, name in enumerate(_ROMANS.split(), 1)}
_FIRST = re.compile(rf"(?:the )?{_RANK}(?: (?P<noun>(?!of\b)[a-z]+))?", re.IGNORECASE)
_LAST = re.compile(
    rf"(?:the )?(?P<noun>[a-z]{{3,}}) (?:(?P<digits>\d{{1,4}})|(?P<roman>{'|'.join(_ROMAN)})|(?P<word>{ENGLISH}))",
    re.IGNORECASE,
)


def rank(text: str) -> int | None:
    """The number of "third", "the 21st", "the third floor"."""
    found = None if text[-1:].isdigit() else _FIRST.fullmatch(text)
    return found and _value(found)


_FIRST_WORDS = frozenset(name.partition(" ")[0] for name in _NAMES)
_LAST_WORDS = frozenset([*_ROMAN, *WORDS, *SCALES])


def _may_be_ranked(text: str) -> bool:
    """A first look that costs little: does a text begin with an ordinal, or end with a number?"""
    first, last = text.removeprefix("the ").partition(" ")[0], text.rpartition(" ")[2]
    return (
        first[:1].isdigit()
        or last.isdigit()
        or first.partition("-")[0] in _FIRST_WORDS
        or last.rpartition("-")[2] in _LAST_WORDS
    )


@lru_cache(4096)
def ranked(text: str) -> tuple[str, int] | None:
    """What is counted and the number of one: ("week", 3) of "the 3rd week" and of "week three". In small letters."""
    if not _may_be_ranked(text):
        return None
    found = _FIRST.fullmatch(text) or _LAST.fullmatch(text)
    if found is None or not found["noun"] or found["noun"] == "one":
        return None
    value = _value(found)
    return None if value is None else (found["noun"].lower(), value)


def _value(found: re.Match[str]) -> int | None:
    if found["digits"]:
        return int(found["digits"])
    said = {name: value.lower() for name, value in found.groupdict().items() if value}
    if "name" in said:
        return _NAMES[said["name"].replace("-", " ")]
    return _ROMAN.get(said.get("roman", "")) or whole(said.get("word", ""))
