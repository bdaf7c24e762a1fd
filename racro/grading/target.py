"""What the grader compares with: a gold answer in plain characters, and of a kind that says how.

Prepared problems keep the kind that `racro.data.golds` gave them, because it is part of their digest; here a gold of
kind text that is a quantity or algebra is compared as one.
"""

from __future__ import annotations

import re
from functools import lru_cache

from racro.grading.measures import ANGLE, asked_unit, asks_for_angle, counted_unit
from racro.grading.normalise import normalised
from racro.grading.numbers import attached, monomial, number
from racro.grading.plain import clean, unstyled
from racro.grading.scales import shortened
from racro.grading.units import unit
from racro.schema import AnswerKind, Gold

_FUNCTIONS = re.compile(r"\\?\b(?:sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|pi|theta|alpha|beta|gamma|lambda|mu)\b")
_SIGNS = re.compile(r"[\d+*/^|\\-]|(?<![A-Za-z])[A-Za-z]!|[A-Za-z)]\s?\(|[^\x00-\x7f]")
"""Without one of these a text is neither a quantity nor algebra."""
_ALGEBRA = re.compile(
    r"(?=.*[A-Za-z])(?=.*(?:[-+*/^|·×÷]|(?<![A-Za-z])[A-Za-z]!|\)!|\d\s?[A-Za-z(]|[A-Za-z)]\s?\(|\\))(?!.*[A-Za-z]\d)"
    r"(?!.*(?:\b(?:to|of|in|at|by|or)\b|\d(?:st|nd|rd|th)\b))"
    r"(?:[A-Za-z](?![A-Za-z]{2})|[\s\d.()\[\]{}+*/^|!_,·×÷π√-])+"
)
"""Letters and numbers with an operator between them, and no words."""
_VALUES = re.compile(r"[(\[]?[^()\[\],]{1,40}(?:,[^()\[\],]{1,40})+[)\]]?")
_WORD = re.compile(r"[^\W\d_]{2,}")
_POLAR = re.compile(r"是的?|否|对的?|不对|错误?|正确|不是")
_RANKED = re.compile(r"(?:the )?\d{1,4}(?:st|nd|rd|th)(?: [a-z]+)?", re.IGNORECASE)
"""What one of a row is called: "5th", "19th century"."""
_FACTORIAL = re.compile(r"\d{1,3}!")
_DATE = re.compile(r"\d{1,4}([/.-])\d{1,2}\1\d{1,4}")


@lru_cache(4096)
def target(gold: Gold) -> Gold:
    """The gold answer as it is compared with."""
    answer = unstyled(normalised(gold.answer)).rstrip("。 ")
    kind = _kind(answer, gold.answer) if gold.kind == "text" else gold.kind
    if kind in ("text", "expression", "integer", "float") and shortened(answer, gold.question):
        kind = "integer" if kind == "integer" else "float"
    elif kind in ("integer", "float") and monomial(answer):
        kind = "expression"
    elif kind == "integer" and _RANKED.fullmatch(answer):
        kind = "text"
    choices, measured_in = tuple(map(normalised, gold.choices)), gold.unit and normalised(gold.unit)
    question = normalised(gold.question)
    if not measured_in and question and kind in ("integer", "float"):
        answer, measured_in = _measured(answer, question)
    return Gold(answer, kind, choices, gold.precision, gold.tolerance, measured_in, question)


def _measured(answer: str, question: str) -> tuple[str, str | None]:
    """A gold number and the unit that its question asks in; one in degrees where only an angle can be meant."""
    asked, bare = asked_unit(question), _DEGREES.sub("", answer)
    ours = number(bare)
    if ours is None or ours.units or ours.percent or ours.following:
        return answer, None
    if (bare != answer or "degrees" in (asked, counted_unit(question))) and asks_for_angle(question):
        return bare, ANGLE
    return answer, asked if bare == answer else None


_DEGREES = re.compile(r"\s?(?:°|\^\s?\{?\s?\\circ\s?\}?|\\degree|(?<=[\d\s])deg(?:ree)?s?)$")


def _kind(answer: str, written: str) -> AnswerKind:
    """The kind of a gold of kind text."""
    if _POLAR.fullmatch(answer):
        return "yesno"
    if answer == written and not _SIGNS.search(answer):
        return "text"
    plain = clean(answer)
    value = None if _DATE.fullmatch(plain) else number(answer)
    measured = value is not None and bool(value.units) and not attached(value, plain)
    if value is not None and (measured or value.percent or answer != written):
        if value.decimals or value.percent:
            return "float"
        return "integer" if value.value.denominator == 1 else "expression"
    if answer != written and _VALUES.fullmatch(plain) and not _WORD.search(plain):
        return "expression" if plain[0] in "([" else "set"
    if "/" in plain and unit(plain):
        return "text"
    if _FACTORIAL.fullmatch(plain):
        return "expression"
    algebra = len(plain) <= LONGEST_ALGEBRA and _ALGEBRA.fullmatch(_FUNCTIONS.sub("x", plain))
    return "expression" if algebra else "text"


LONGEST_ALGEBRA = 80
