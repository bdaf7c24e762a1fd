"""The number that prose comes to, with its unit: after "is" or "=", in bold, or the one that a sentence holds.

Not the reading of a number (`racro.grading.numbers`). Called by `racro.grading.prose` sentence by sentence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from racro.grading import english, numbers, scales
from racro.grading.asking import one_count
from racro.grading.east_asian import NOT_MEANT
from racro.grading.plain import clean
from racro.grading.units import unit
from racro.grading.words import OPINION
from racro.schema import Gold

CONCLUDING = re.compile(
    r"(?:so|thus|therefore|hence|in conclusion|consequently|finally|following th(?:is|ese)|based on th(?:is|ese))\b",
    re.IGNORECASE,
)

_TOKEN = re.compile(
    rf"(?:(?<![\w.,^_{{:-])|(?<=[\u3040-\u9fff\uac00-\ud7a3]))"
    rf"(?:\d{{1,9}} and {english.SHARE}"
    rf"|-?(?:[$€£]\s?)?{numbers.DECIMAL}(?:\s?/\s?\d+)?(?![\d_^:]|-\d)\s?(?:%|°(?![CF]))?|{english.IN_PROSE})",
    re.IGNORECASE,
)
_BESIDE = re.compile(r"[^\s,;:!?=|<>\u4e00-\u9fff]+")
_SCALED = re.compile(rf"(?i:\s?{scales.NAMED})|{scales.LETTER}|\s[KM](?![\w/^°'])")
_UNIT_WORDS, LONGEST_UNIT = 4, 60
_ANNOUNCED = re.compile(
    r"(?:=|\btotal of"
    r"|\b(?:is|are|was|were|be|equals?|needs?|costs?|has|have|had|get|gives?|makes?|contain(?:s|ing)?|see"
    r"|count(?:ed)?))"
    r"\s(?:\w+\s){0,2}$|(?:[是为得有]|等于)\s?$"
)
_COUNTED = re.compile(r"\b(?:\d+|one|two|three|no)\s$")  # "1 zero"
_BOLD = re.compile(r"\*\*([^*]+)\*\*")
_COMPARED = re.compile(r"\b(?:than|least|most|below|above|under|over|exceed(?:s|ing)?|between|exactly)\s$")
_OPERATIONS = (
    r"(?:twice|double|triple|(?:hal(?:f|ves)|thirds?|quarters?|fifths?|squared?|cubed?|root|reciprocal"
    r"|inverse|opposite|negative|factors?|multiples?|divisors?|factorial|remainder|logarithm|percent(?:age)?|%) of)"
)
"""Words before a number that make another one of it."""
_NOT_MEANT = re.compile(
    r"(?:\bnot|n['’]t|\b(?:more|greater|larger|less|fewer|smaller|higher|lower) than|\bat (?:least|most)|\bup to"
    rf"|\b{_OPERATIONS})"
    r"\s(?:the number |exactly )?$"
    r"|(?:不(?:是|为|等于|到|足|超过)?|并?非|[大小多少高低]于|超过|至[少多]|最[少多])\s?$",
    re.IGNORECASE,
)
"""A number behind it is not what the sentence says."""


_SERIES = re.compile(r"\s?(?:[,;]|,? (?:and|or))\s?")


class _Token(NamedTuple):
    """A number in a sentence, with its unit."""

    text: str
    start: int
    end: int
    read: numbers.Number | None


Fits = Callable[[numbers.Number], bool]
"""May a number be the answer?"""


def concluded_number(read: Sequence[str], gold: Gold) -> str | None:
    """The number that sentences come to, the likeliest sentence first: a whole one, where that is asked for."""
    asked = _ASKED.findall(gold.question.partition("\nChoices")[0].lower())
    if asked and (named := next(filter(None, (_numbered(asked[-1], sentence) for sentence in read)), None)):
        return named
    read = [one_count(_without_bounds(sentence, gold.question), gold.question) for sentence in read]
    answer = numbers.number(gold.answer)
    whole = gold.kind == "integer" and not gold.unit and not (answer and answer.units)

    def fits(found: numbers.Number) -> bool:
        return not whole or found.percent or any(one.value.denominator == 1 for one in (found, *found.scaled))

    said = _with_reason(read[0], fits) if read else None
    return said or next(filter(None, (rule(sentence, fits) for rule in _RULES for sentence in read)), None)


LONGEST_REASONED = 40
"""Characters of a number before the reason for it."""
_REASON = re.compile(r"[,;]?\s(?:because|since)\b|,\sas\b(?! well)|;\s|\s\((?!(?:mod|or|and|not|maybe)\b)")


def _with_reason(sentence: str, fits: Fits) -> str | None:
    """The number that a sentence begins with, before it says why, or that it guesses: "Two, because one hides."."""
    opinion = OPINION.match(sentence)
    said = sentence[opinion.end() if opinion else 0 :][:LONGEST_REASONED]
    reason = _REASON.search(said)
    if not reason and not opinion:
        return None
    said = (said[: reason.start()] if reason else said).rstrip(".")
    number = numbers.number(said)
    return said if number and fits(number) else None


_BOUND = re.compile(
    r"\b(after|before|since|until|till|prior to) (?:the year )?[12]\d{3}(?=[*\s]*(?:$|[.,;!)]))", re.IGNORECASE
)
"""A year that only bounds another: "It was built before 1999."."""


def _without_bounds(sentence: str, question: str) -> str:
    """A sentence without the years that only bound what it says, unless the question asks for a bound: "Since when"."""
    asked = question.lower()
    return _BOUND.sub(lambda year: year[0] if re.search(rf"\b{year[1].lower()}\b", asked) else year[1], sentence)


_ASKED = re.compile(r"\b(?:which|what) (?!is\b|are\b|was\b|were\b|does\b|do\b|did\b|of\b|number\b)([a-z]{3,15})\b")


def _numbered(noun: str, sentence: str) -> str | None:
    """The number of "week 3", where the question asks which week."""
    found = re.findall(rf"\b{noun} (\d{{1,6}})\b(?!\s?%|[.,]\d|,? (?:and|or|to)\b|-)", clean(sentence), re.IGNORECASE)
    return found[0] if len(set(found)) == 1 else None


def _tokens(plain: str, fits: Fits) -> list[_Token]:
    """The numbers of a sentence, but not those that it only compares with, nor the members of a series."""
    found: list[_Token] = []
    for token in _TOKEN.finditer(plain):
        number = token[0].rstrip()
        end = token.start() + len(number)
        measure, ends = _measure(plain[end : end + LONGEST_UNIT])
        if ends and not _COUNTED.search(plain[: token.start()]):
            text = number + measure
            found.append(_Token(text, token.start(), end + len(measure), numbers.number(text)))
            found[-2:] = _as_one(plain, found[-2:])
    series = {at for at, (one, other) in enumerate(pairwise(found)) if _SERIES.fullmatch(plain, one.end, other.start)}
    fitting = [
        token
        for at, token in enumerate(found)
        if not {at, at - 1} & series
        and token.read is not None
        and fits(token.read)
        and not _NOT_MEANT.search(plain[: token.start])
        and not (plain[token.end : token.end + 2].strip() > "\u3040" and NOT_MEANT.match(plain, token.end))
    ]
    return [token for token in fitting if not _COMPARED.search(plain[: token.start])] or fitting


def _as_one(plain: str, last: list[_Token]) -> list[_Token]:
    """The last two tokens, or the one quantity that both are: "1 hour and 30 minutes"."""
    if len(last) < 2 or not all(token.read and token.read.units for token in last):
        return last
    text = plain[last[0].start : last[1].end]
    read = numbers.number(text) if _COMPOUND.fullmatch(plain, last[0].end, last[1].start) else None
    return [_Token(text, last[0].start, last[1].end, read)] if read else last


_COMPOUND = re.compile(r",?\s(?:and\s)?")


def _measure(after: str) -> tuple[str, bool]:
    """The unit that follows a number, and whether the number ends where it seemed to: not in "5x", "2nd", "1990s"."""
    if scale := _SCALED.match(after):
        return scale[0] + _measure(after[scale.end() :])[0], True
    if after[:1] in ("'", '"'):  # more often of a quotation than of feet
        return "", True
    joined = after[:1].isalpha() and not "\u3040" <= after[:1] <= "\ud7a3"
    words = list(_BESIDE.finditer(after))[:_UNIT_WORDS]
    if words and words[0].start() <= 1 and after[words[0].start()] not in "0123456789":
        for last in words[::-1]:
            text = after[: last.end()].rstrip(".*)")
            if text.split()[-1:] == ["in"] and after[last.end() :].strip(" ."):
                continue  # "in January"
            if unit(text) and not (joined and text == "s"):
                return text, True
    if (alone := _ALONE.match(after)) and unit(alone[1].swapcase()):
        return after[: alone.end(1)], True  # "3 t" is not 3
    return "", not joined


_ALONE = re.compile(r"\s([A-Za-z])[\s.)*]*$")
"""A single letter behind a number that ends there."""


def _concluded(sentence: str, fits: Fits) -> str | None:
    """The number of a sentence that says it concludes."""
    if not CONCLUDING.match(sentence):
        return None
    return (
        _announced_in_bold(sentence, fits)
        or _in_bold(sentence, fits)
        or announced(sentence, fits)
        or _only(sentence, fits)
    )


def _in_bold(sentence: str, fits: Fits) -> str | None:
    """The last number in bold."""
    return next((token.text for token in _bold(sentence, fits)[::-1]), None)


def _announced_in_bold(sentence: str, fits: Fits) -> str | None:
    """The last number in bold that stands after "=" or "is"."""
    return next((t.text for t in _bold(sentence, fits)[::-1] if _ANNOUNCED.search(sentence[: t.start])), None)


def _bold(sentence: str, fits: Fits) -> list[_Token]:
    found = []
    for part in _BOLD.finditer(sentence):
        if (read := numbers.number(part[1])) and fits(read):
            measure = "" if read.following else _measure(sentence[part.end() : part.end() + LONGEST_UNIT])[0]
            found.append(_Token(part[1] + measure, part.start(), part.end(), read))
    return found


def announced(sentence: str, fits: Fits = bool) -> str | None:
    """The last number that stands after "=" or "is"."""
    plain = clean(sentence)
    return next((t.text for t in _tokens(plain, fits)[::-1] if _ANNOUNCED.search(plain[: t.start])), None)


def _only(sentence: str, fits: Fits) -> str | None:
    """The one number of a sentence."""
    tokens = [token for token in _tokens(clean(sentence), fits) if token.text.lower() not in english.WORDS]
    return tokens[0].text if len({(t.read.value, t.read.percent) for t in tokens if t.read}) == 1 else None


_RULES = (_concluded, _announced_in_bold, _in_bold, announced, _only)
"""The surest first; each is tried on all sentences."""
