r"""Sets of solutions: none at all ("no real roots", \emptyset), and inequalities ("x<1 or x>2") as intervals.

Texts become texts of one notation; what is in them is compared elsewhere. Called by `racro.grading.grader`.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import NamedTuple

from racro.grading import symbolic
from racro.grading.numbers import number
from racro.grading.plain import clean, undressed

LONGEST = 200
"""Characters of a text that may be inequalities."""
_SET = re.compile(r"\\(?:emptyset|varnothing|O(?![a-zA-Z]))|[∅Ø]|\\?\{\s*\\?\}")
_NAMED = re.compile(r"\\?[a-z]\s?(?:=|∈|\\in\b)\s?", re.IGNORECASE)
_NONE = re.compile(
    r"(?:none|(?:the )?(?:empty|null) (?:set|solution)|(?:there (?:is|are) |(?:the )?[\w ]{0,30}\b(?:has|have) )?no "
    r"(?:(?:such|real|valid|possible|real-valued|real number) ?)*(?:solutions?|roots?|zeros|values?|numbers?|x)"
    r"(?: sets?)?(?: exists?| in r| to the equation| for x)?)",
    re.IGNORECASE,
)
_HINT = re.compile(r"[\\{∅Ø]|[nN][oOuU]|[eE][mM]")
"""Without one of these a text neither says nor shows that a set is empty: a first look that costs little."""
_BEFORE = re.compile(r"^(?:so|thus|therefore|hence|then|since|as|because)\b,?\s", re.IGNORECASE)


@lru_cache(4096)
def is_empty(text: str) -> bool:
    """Does a text say that there is no solution: by a sign for the empty set, or in words?"""
    if not _HINT.search(text):
        return False
    text = _NAMED.sub("", undressed(text), count=1)
    said = _BEFORE.sub("", clean(text).rpartition(", ")[2])
    return _SET.fullmatch(text.strip()) is not None or _NONE.fullmatch(said) is not None


# --- inequalities -----------------------------------------------------------------------------------------------------

_INCLUSIVE = re.compile(r"(?:between|from) (\S{1,40}) (?:and|to) (\S{1,40}?),? \(?(in|ex)clusive\)?\.?", re.IGNORECASE)
_SIGNS = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"\\(?:text|mathrm|mbox)\s?\{\s*(or|and)\s*\}", r" \1 "),
        (r"\\(?:lor|vee)(?![a-zA-Z])|∨", " or "),
        (r"\\(?:land|wedge)(?![a-zA-Z])|∧", " and "),
        (r"\\(?:leq?|leqslant)(?![a-zA-Z])|≤|<=|=<", "≤"),
        (r"\\(?:geq?|geqslant)(?![a-zA-Z])|≥|>=", "≥"),
        (r"\\[lr]?vert(?![a-zA-Z])", "|"),
        (r"\\lt(?![a-zA-Z])", "<"),
        (r"\\gt(?![a-zA-Z])", ">"),
        (r"\\cup(?![a-zA-Z])|∪|(?<=[\])])\s?(?:U|or)\s?(?=[\[(])", "∪"),
        (r"\\in(?![a-zA-Z])|∈", "∈"),
        (r"\+?(?:\\infty|∞|\binf(?:inity|ty)?\b)", r"\\infty "),
        (r"\\(?:left|right|quad|qquad|displaystyle)(?![a-zA-Z])|\\[,;:! ]|\$", " "),
    )
)
_BUILDER = re.compile(r"\\?\{\s*([a-zA-Z])\s*(?:∈\s*(?:\\mathbb\s?\{?R\}?|R|ℝ)\s*)?(?:\\mid|\\vert|\||:)(.*?)\\?\}")
_ABSOLUTE = re.compile(r"\|\s*([a-zA-Z])\s*\|\s*([<>≤≥])\s*([^<>≤≥,;|]+)")
_MEMBER = re.compile(r"([a-zA-Z])\s*∈\s*(.+)")
_INTERVAL = r"[\[(][^\[\]()<>≤≥]{1,60},[^\[\]()<>≤≥]{1,60}[\])]"
_INTERVALS = re.compile(rf"{_INTERVAL}(?:\s*∪\s*{_INTERVAL})*")
_RELATION = re.compile(r"\s*([<>≤≥])\s*")
_TURNED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}


class Solutions(NamedTuple):
    """A set of real numbers."""

    variable: str
    """Empty for intervals alone."""
    intervals: str
    """In LaTeX, with \\cup between them."""

    @property
    def described(self) -> bool:
        """Is it more than one interval, which may as well be a point?"""
        return bool(self.variable) or r"\cup" in self.intervals


class _Bounds(NamedTuple):
    """Where an interval begins and ends, with its brackets; None for a side that has no bound."""

    low: str | None
    high: str | None

    def __str__(self) -> str:
        return (self.low or r"(-\infty") + "," + (self.high or r"\infty)")


@lru_cache(4096)
def solutions(text: str) -> Solutions | None:
    """The set that inequalities in one variable, or a union of intervals, describe; None for all other texts."""
    if said := _INCLUSIVE.fullmatch(text):
        sign = "≤" if said[3].lower() == "in" else "<"
        text = f"{said[1]} {sign} x {sign} {said[2]}"
    if len(text) > LONGEST or not re.search(r"[<>≤≥∪\[(]|\\[lg](?:eq?|t)|\\cup", text):
        return None
    text = undressed(text)
    for pattern, new in _SIGNS:
        text = pattern.sub(new, text)
    text, variable = text.strip(), ""
    if built := _BUILDER.fullmatch(text):
        text, variable = built[2].strip(), built[1]
    if member := _MEMBER.fullmatch(text):
        variable, text = member[1], member[2].strip()
    if _INTERVALS.fullmatch(text):
        return Solutions(variable, text.replace("∪", r" \cup "))
    if absolute := _ABSOLUTE.fullmatch(text):
        name, sign, most = absolute.groups()
        joined = "and" if sign in "<≤" else "or"
        text = f"{name} {_TURNED[sign]} -({most}) {joined} {name} {sign} {most}"
    found = []
    for clause in re.split(r"\bor\b|∪", _without_commas(text)):
        read = [_relation(part) for part in re.split(r"\band\b", clause)]
        names = {one[0] for one in read if one}
        if None in read or len(names) != 1 or (variable and names != {variable}):
            return None
        variable = names.pop()
        lows, highs = ([side for one in read if one and (side := one[1][at])] for at in (0, 1))
        if len(lows) > 1 or len(highs) > 1:
            return None
        found.append(_Bounds(next(iter(lows), None), next(iter(highs), None)))
    return Solutions(variable, r" \cup ".join(map(str, found)))


_COMMA = re.compile(r"\s*[,;]\s*(?:(or|and)\b)?")


def _without_commas(text: str) -> str:
    """Inequalities with "or" and "and" for the commas between them: "and" where two of them have a common part.

    "x < 1, x > 2" is the union; "x > 1, x < 2" can only be meant as the interval.
    """
    clauses = _COMMA.split(text)
    if len(clauses) != 3 or clauses[1]:
        return _COMMA.sub(lambda comma: f" {comma[1] or 'or'} ", text)
    sides = [one[1] for clause in clauses[::2] if (one := _relation(clause))]
    lows, highs = ([side for bounds in sides if (side := bounds[at])] for at in (0, 1))
    meet = len(lows) == len(highs) == 1 and len(sides) == 2 and _value(lows[0][1:]) < _value(highs[0][:-1])
    return f"{clauses[0]} {'and' if meet else 'or'} {clauses[2]}"


def _value(bound: str) -> float:
    """The value of a bound; NaN, which is less than nothing, where it is not a number."""
    read = number(bound)
    value = float(read.value) if read else symbolic.value(bound)
    return math.nan if value is None else value


def _relation(text: str) -> tuple[str, _Bounds] | None:
    """The variable of "x < 1", "1 ≤ x" or "1 < x ≤ 2", and its bounds."""
    parts = [part.strip() for part in _RELATION.split(text)]
    if not all(parts):
        return None
    match parts:
        case [left, sign, right] if _variable(left):
            return left, _bounds(sign, right)
        case [left, sign, right] if _variable(right):
            return right, _bounds(_TURNED[sign], left)
        case [left, first, name, second, right] if _variable(name) and _TURNED[first] not in (second, _other(second)):
            one, other = _bounds(_TURNED[first], left), _bounds(second, right)
            return name, _Bounds(one.low or other.low, one.high or other.high)
        case _:
            return None


def _variable(text: str) -> bool:
    return len(text) == 1 and text.isalpha()


def _other(sign: str) -> str:
    """The sign of the same direction that differs in the bound itself."""
    return {"<": "≤", "≤": "<", ">": "≥", "≥": ">"}[sign]


def _bounds(sign: str, value: str) -> _Bounds:
    if sign in "<≤":
        return _Bounds(None, value + (")" if sign == "<" else "]"))
    return _Bounds(("(" if sign == ">" else "[") + value, None)


def same_solutions(found: str, answer: str) -> bool:
    """Do two texts describe the same set, one of them by inequalities or as a union? Raises GraderFailed."""
    ours, theirs = solutions(answer), solutions(found)
    if ours is None or theirs is None or not (ours.described or theirs.described):
        return False
    if ours.variable and theirs.variable and ours.variable != theirs.variable:
        return False
    return symbolic.equal(ours.intervals, theirs.intervals)
