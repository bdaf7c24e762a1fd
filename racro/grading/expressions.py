"""Expressions, equations, intervals, and several values: by own rules where those decide, by algebra where not."""

from __future__ import annotations

import re
from fractions import Fraction

from racro.grading import symbolic
from racro.grading.numbers import Number, number, same_number
from racro.grading.plain import NESTED, clean, nested, undressed
from racro.grading.words import same_text
from racro.schema import Gold

MILLIONTH = 1e-6
"""Absolute; what two numbers may differ by where neither is asked for in a precision (math-verify rounds so too)."""

_WORDS = re.compile(r"[^\W\d_]{2,}(?:[ '-][^\W\d_]+)*")
_MATHS = re.compile(r"\d|\\[a-zA-Z]+|[πe√∞]")


def same_quantity(found: str, gold: Gold) -> bool:
    """Two numbers, either of which may be written as an expression: "\\sqrt{2}", "2^{10}", "\\pi/4"."""
    ours, theirs = number(gold.answer), number(found)
    if clean(found) == clean(gold.answer):
        return True
    if ours is None and not _MATHS.search(gold.answer):
        return same_text(found, gold.answer)
    if theirs is None and not _MATHS.search(found):
        return False
    ours, theirs = ours or _computed(gold.answer), theirs or _computed(found)
    return ours is not None and theirs is not None and same_number(theirs, ours, gold)


_NAME = re.compile(r"[\w\s\\$()]*")
_DIGIT = re.compile(r"\d|π|\\pi")
_OPERATOR = re.compile(r"[-+*/^√π]|sqrt|pi|\\[a-z]")
_COMPUTABLE = re.compile(
    r"[-+\d.()\[\]{}\s*/^√π]|\b(?:sqrt|pi)\b|\\(?:sqrt|[dtc]?frac|pi|cdot|times|div|left|right|[,;:! ])"
)


def computable(text: str) -> bool:
    """Is a text an expression of numbers alone, or a name and one: without a variable, a word or a relation?"""
    name, _, body = text.rpartition("=")
    holds = _NAME.fullmatch(name) and _OPERATOR.search(body) and _DIGIT.search(body)
    return holds is not None and not _COMPUTABLE.sub("", body)


def _computed(text: str) -> Number | None:
    if not computable(text) or nested(text) > NESTED:
        return None
    value = symbolic.value(undressed(text).rpartition("=")[2])
    return None if value is None else Number(Fraction(value))


def same_expression(found: str, answer: str) -> bool:
    """Do two expressions, equations or intervals say the same? Raises GraderFailed."""
    ours, theirs = _squeeze(answer), _squeeze(found)
    if ours == theirs:
        return True
    if not ("=" in ours and ("=" in theirs or not _NAME.fullmatch(ours.partition("=")[0]))):
        one, other = number(answer), number(found)
        if one and other:
            return same_number(other, one, Gold(answer, "float", tolerance=MILLIONTH))
    if _WORDS.fullmatch(clean(answer)):
        return same_text(found, answer)
    return nested(found) <= NESTED and symbolic.equal(undressed(answer), undressed(found))


def same_list(found: str, answer: str) -> bool:
    """The same values in the same order."""
    ours, theirs = parts(answer), parts(found)
    return len(ours) == len(theirs) and all(same_expression(t, o) for o, t in zip(ours, theirs, strict=True))


def same_set(found: str, answer: str) -> bool:
    """The same values in any order, none of them twice."""
    ours, theirs = _distinct(parts(answer)), _distinct(parts(found))
    if len(ours) != len(theirs):
        return False
    for value in ours:
        match = next((other for other in theirs if same_expression(other, value)), None)
        if match is None:
            return False
        theirs.remove(match)
    return True


def _distinct(values: list[str]) -> list[str]:
    return list({_squeeze(value): value for value in values}.values())


_PAIRS = {"(": ")", "[": "]", "{": "}"}


def parts(text: str) -> list[str]:
    """The values of a list or set: outer brackets off, cut at commas and semicolons outside brackets, and at "and"."""
    text = re.sub(r"\\(?=[{}])|\\[lr](?:brace|brack)\b|\\(?:left|right)\b", "", text)
    text = clean(text)
    name, equals, values = text.partition("=")
    if equals and re.fullmatch(r"\s*\(?[A-Za-z](?:\s*,\s*[A-Za-z])*\)?\s*", name) and "=" not in values:
        text = values.strip()
    if text[:1] in _PAIRS and _closing(text) == len(text) - 1:
        text = text[1:-1]
    found, depth, start = [], 0, 0
    for cut in re.finditer(r"[(\[{]|[)\]}]|[,;]|\b(?:and|or)\b", text):
        if cut[0] in _PAIRS:
            depth += 1
        elif cut[0] in ")]}":
            depth -= 1
        elif (depth == 0 and not re.match(r",\d{3}(?:\D|$)", text[cut.start() : cut.start() + 5])) or (
            depth == 0 and " " in text[cut.end() : cut.end() + 1]
        ):
            found.append(text[start : cut.start()])
            start = cut.end()
    return [value for part in (*found, text[start:]) if part.strip() for value in _either(part.strip())]


def _either(text: str) -> list[str]:
    """Both values of "1 ± 2"."""
    before, sign, after = re.sub(r"\\pm(?![a-zA-Z])", "±", text).partition("±")
    return [f"{before}+{after}", f"{before}-{after}"] if sign else [text]


def _closing(text: str) -> int:
    """Index of the bracket that closes the first character; -1 when there is none."""
    depth = 0
    for at, char in enumerate(text):
        depth += (char in _PAIRS) - (char in ")]}")
        if depth == 0:
            return at
    return -1


def _squeeze(text: str) -> str:
    return clean(text).replace(" ", "").replace(";", ",")
