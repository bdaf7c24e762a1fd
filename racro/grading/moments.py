"""Dates and times of day: "March 3, 2021" and "3rd of March 2021", "3:45 PM" and "15:45", "half past five".

Not durations (`racro.grading.units`) and not ratios (`racro.grading.words`). Called by `racro.grading.grader`.
"""

from __future__ import annotations

import calendar
import re
from functools import lru_cache
from typing import NamedTuple

from racro.grading import numerals
from racro.grading.plain import clean

_NAMES = {
    name.lower(): at for names in (calendar.month_name, calendar.month_abbr) for at, name in enumerate(names) if name
}
_MONTHS = _NAMES | {"sept": 9}
_MONTH = rf"(?P<month>{'|'.join(sorted(_MONTHS, key=len, reverse=True))})\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>\d{4})"
_DATES = tuple(
    re.compile(rf"(?:the )?(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,? )?{form}", re.IGNORECASE)
    for form in (
        rf"{_MONTH} (?:the )?{_DAY}(?:,? {_YEAR})?",
        rf"{_DAY} (?:of )?{_MONTH}(?:,? {_YEAR})?",
        rf"{_MONTH},? (?:of )?{_YEAR}",
        rf"{_YEAR}[-/.](?P<month>\d{{1,2}})[-/.](?P<day>\d{{1,2}})",
    )
)
_TIME = re.compile(
    r"(?P<hour>[01]?\d|2[0-4])(?:[:.](?P<minute>[0-5]\d))?(?::(?P<second>[0-5]\d))?"
    r"\s?(?P<half>[ap]\.?\s?m\b\.?|o'clock)?",
    re.IGNORECASE,
)
_PARTS = {"half past": 30, "quarter past": 15, "quarter to": -15}
_SPOKEN = re.compile(
    rf"(?:an? )?({'|'.join(_PARTS)}) ({'|'.join([*numerals.WORDS][1:13])}|1[0-2]|[1-9])", re.IGNORECASE
)


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
    """Are two texts the same date, or the same time of day? None where the answer is none, or only one is a time.

    A time without "AM" or "PM" may be either.
    """
    if (ours := _moment(answer)) is None:
        return None
    theirs = _moment(found)
    if isinstance(ours, _Time) and isinstance(theirs, _Time):
        return ours[:3] == theirs[:3] and (ours.half == theirs.half or "" in (ours.half, theirs.half))
    if isinstance(ours, _Date) and (theirs is not None or clean(found).isdigit()):
        return ours == theirs
    return None


@lru_cache(4096)
def _moment(text: str) -> _Date | _Time | None:
    if spoken := _SPOKEN.fullmatch(text.strip(" .")):
        part, hour = spoken[1].lower(), spoken[2].lower()
        minutes = 60 * (numerals.WORDS.get(hour) or int(hour)) + _PARTS[part]
        return _Time(minutes // 60 or 12, minutes % 60, 0, "")
    if not any(map(str.isdigit, text)):
        return None
    plain = clean(text)
    if not plain[:1].isalnum():
        return None
    if dated := next(filter(None, (form.fullmatch(plain) for form in _DATES)), None):
        read = dated.groupdict()
        month, day = read["month"].lower(), read.get("day")
        number = _MONTHS.get(month) or int(month)
        return _Date(read.get("year"), number, int(day) if day else None) if 1 <= number <= 12 else None
    time = _TIME.fullmatch(plain)
    if time is None or not (time["half"] or (time["minute"] and ":" in plain)):
        return None
    hour, half = int(time["hour"]), (time["half"] or "")[:1].lower().replace("o", "")
    if hour > 12 or hour == 0:
        hour, half = hour % 12 or 12, "a" if hour in (0, 24) else "p"
    return _Time(hour, int(time["minute"] or 0), int(time["second"] or 0), half)
