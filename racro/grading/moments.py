"""Dates and times of day: "March 3, 2021" and "3rd of March 2021", "3:45 PM" and "15:45", "half past five", "noon".

Not durations (`racro.grading.units`) and not ratios (`racro.grading.words`). Called by `racro.grading.grader`, and by
`racro.grading.prose` for sentences that say one.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from racro.grading import english
from racro.grading.plain import clean
from racro.grading.ranks import rank

_NAMES = {
    name.lower(): at for names in (calendar.month_name, calendar.month_abbr) for at, name in enumerate(names) if name
}
_MONTHS = _NAMES | {"sept": 9}
_MONTH = rf"(?P<month>{'|'.join(sorted(_MONTHS, key=len, reverse=True))})\b\.?"
_DAY = rf"(?P<day>(?:{english.ORDINAL}|\d{{1,2}}(?:st|nd|rd|th)?)\b)"
_YEAR = r"(?P<year>\d{4})\b"
_WEEKDAY = r"(?:the )?(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,? )?"
_DATES = tuple(
    re.compile(rf"\b{_WEEKDAY}{form}", re.IGNORECASE)
    for form in (
        rf"{_MONTH} (?:the )?{_DAY}(?:,? {_YEAR})?",
        rf"{_DAY} (?:of )?{_MONTH}(?:,? {_YEAR})?",
        rf"{_MONTH},? (?:of )?{_YEAR}",
        rf"{_YEAR}[-/.](?P<month>\d{{1,2}})[-/.](?P<day>\d{{1,2}})\b",
    )
)
_HOURS = {word: at for word, at in english.WORDS.items() if 1 <= at <= 12} | {str(at): at for at in range(1, 13)}
_HOUR = rf"(?P<hour>{'|'.join(sorted(_HOURS, key=len, reverse=True))})\b"
_HALF = r"(?:\s?(?P<half>[ap](?:m\b|\.\s?m\.)|in the (?:morning|afternoon|evening)))?"
_DIGITAL = re.compile(
    r"(?<![\d:.])(?P<hour>[01]?\d|2[0-4])(?::(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?"
    rf"|(?=\.[0-5]\d\s?[ap])\.(?P<dotted>[0-5]\d)|(?=\s?[ap]\.?\s?m\b))(?![:\d]){_HALF}",
    re.IGNORECASE,
)
_SHARE = rf"(?P<share>an? quarter|quarter|half|(?:{english.BELOW_100}|\d{{1,2}}(?=\s?min))(?:\s?min(?:ute)?s?\b)?)"
_SPOKEN = tuple(
    re.compile(rf"\b{form}{_HALF}", re.IGNORECASE)
    for form in (
        rf"{_SHARE}[ -](?P<side>past|after|to|before|till?)[ -]{_HOUR}",
        rf"{_HOUR} o['’]?clock",
        r"(?:12 )?(?P<named>noon|midday|midnight)\b",
    )
)
_LOOSE = tuple(
    re.compile(form + _HALF, re.IGNORECASE)
    for form in (
        rf"{_HOUR} (?P<minutes>(?:oh?[ -])?{english.BELOW_100})",
        rf"(?P<share>\d{{1,2}}) (?P<side>past|after|to|before|till?) {_HOUR}",
    )
)
"""What only beside a time of day is one: "five thirty", "10 to 4"."""
_HINT = re.compile(
    r"o['’]?clock|noon|midday|midnight|(?:past|to|before|after|till?)\b"
    rf"|{'|'.join(calendar.month_abbr[1:]).lower()}"
)
_HINT_OF_DIGITS = re.compile(r"\d(?::\d|[-./]\d\d?[-./]\d|\.\d\d\s?[ap]|\s?[ap]\.?\s?m)")
"""Without one of these a text in small letters is no moment: a first look that costs little."""
_BEFORE = re.compile(
    r"\b(?:before|after|until|till?|by|since|than|from|between|past|to|and|minutes?|hours?)\s(?:the |about |around )?$",
    re.IGNORECASE,
)
_AFTER = re.compile(r"\s?(?:-|–|to\b|until\b|till\b)")
_DENIED = re.compile(r"\b(?:not|never|neither|nor|or|either)\b|n['’]t\b", re.IGNORECASE)


class _Date(NamedTuple):
    year: str | None
    month: int
    day: int | None


class _Time(NamedTuple):
    hour: int
    minute: int
    second: int
    half: str
    """Of the day: "a", "p", or "" where it is not said and the hour does not tell."""


def same_moment(found: str, answer: str) -> bool | None:
    """Are two texts the same date, or the same time of day? None where that is not what decides.

    A time without "AM" or "PM" may be either. What is found may be a sentence that says one.
    """
    if (ours := _moment(answer)) is None:
        spoken = _spoken(answer) if answer[:1].isalpha() else None
        return True if spoken and (theirs := _moment(found)) and _same(spoken, theirs) else None
    loose = _whole(clean(found), _LOOSE) if isinstance(ours, _Time) else None
    theirs = _moment(found) or loose or told(found, answer)
    if theirs is None:
        return False if isinstance(ours, _Date) and clean(found).isdigit() else None
    return _same(ours, theirs)


def _same(ours: _Date | _Time, theirs: _Date | _Time) -> bool:
    if isinstance(ours, _Time) and isinstance(theirs, _Time):
        return ours[:3] == theirs[:3] and (ours.half == theirs.half or "" in (ours.half, theirs.half))
    return ours == theirs


def told(sentence: str, answer: str) -> _Date | _Time | None:
    """The one moment that a sentence says, of the gold answer's kind; None for a denied one, and for "before 5:30"."""
    ours = _moment(answer)
    if ours is None or _DENIED.search(sentence):
        return None
    plain = clean(sentence)
    spans = list(_spans(plain, _DATES if isinstance(ours, _Date) else (_DIGITAL, *_SPOKEN)))
    longest = [one for one in spans if not any(one != other and _within(one, other) for other in spans)]
    found = {_read(match) for match in longest}
    bound = any(_BEFORE.search(plain[: one.start()]) or _AFTER.match(plain, one.end()) for one in longest)
    return None if len(found) != 1 or bound else found.pop()


def _spans(text: str, forms: tuple[re.Pattern[str], ...]) -> Iterator[re.Match[str]]:
    for form in forms:
        yield from form.finditer(text)


def _within(one: re.Match[str], other: re.Match[str]) -> bool:
    return other.start() <= one.start() and one.end() <= other.end() and len(other[0]) > len(one[0])


@lru_cache(4096)
def _moment(text: str) -> _Date | _Time | None:
    """The moment that a text is."""
    small = text.lower()
    if not _HINT.search(small) and not _HINT_OF_DIGITS.search(small):
        return None
    plain = clean(text)
    if not plain[:1].isalnum():
        return None
    return _whole(plain, (*_DATES, _DIGITAL, *_SPOKEN))


@lru_cache(4096)
def _spoken(text: str) -> _Date | _Time | None:
    """The time of day that a text may be: "five thirty"."""
    plain = clean(text)
    return _whole(plain, _LOOSE[:1]) if plain.partition(" ")[0].lower() in _HOURS else None


def _whole(plain: str, forms: tuple[re.Pattern[str], ...]) -> _Date | _Time | None:
    match = next(filter(None, (form.fullmatch(plain) for form in forms)), None)
    return match and _read(match)


def _read(match: re.Match[str]) -> _Date | _Time | None:
    said = {name: value.lower() for name, value in match.groupdict().items() if value is not None}
    if "month" in said:
        month, day = _MONTHS.get(said["month"]) or int(said["month"]), said.get("day")
        return _Date(said.get("year"), month, _day(day) if day else None) if 1 <= month <= 12 else None
    half = "" if "half" not in said else "a" if said["half"][0] == "a" or "morning" in said["half"] else "p"
    if "named" in said:
        return _Time(12, 0, 0, "a" if said["named"] == "midnight" else "p")
    hour = _HOURS.get(said["hour"]) or int(said["hour"])
    minute = int(said.get("minute") or said.get("dotted") or 0)
    if "minutes" in said:
        minute = english.whole(said["minutes"]) or 0
    if "side" in said:
        minute = _minutes(said["share"]) * (1 if said["side"] in ("past", "after") else -1)
    if minute >= 60 or (minute == -30 and said.get("share") == "half"):
        return None
    if not 1 <= hour <= 12:
        hour, half = hour % 12 or 12, "a" if hour in (0, 24) else "p"
    minutes = hour * 60 + minute
    return _Time((minutes // 60 - 1) % 12 + 1, minutes % 60, int(said.get("second", 0)), half)


def _minutes(share: str) -> int:
    if share.endswith("quarter"):
        return 15
    return 30 if share == "half" else english.whole(re.sub(r"\s?min\w*", "", share)) or 0


def _day(text: str) -> int | None:
    return int(digits[0]) if (digits := re.match(r"\d+", text)) else rank(text)
