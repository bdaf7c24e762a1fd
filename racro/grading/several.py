"""Several values: lists in their order, sets in any. Called by `racro.grading.grader` and `racro.data.golds`."""

from __future__ import annotations

import re

from racro.grading.expressions import same_expression, squeezed
from racro.grading.plain import clean
from racro.schema import Gold


def same_list(found: str, gold: Gold) -> bool:
    """The same values in the same order."""
    ours, theirs = parts(gold.answer), parts(found)
    pairs = zip(ours, theirs, strict=False)
    return len(ours) == len(theirs) and all(same_expression(t, gold._replace(answer=o)) for o, t in pairs)


def same_set(found: str, gold: Gold) -> bool:
    """The same values in any order, none of them twice."""
    ours, theirs = _distinct(parts(gold.answer)), _distinct(parts(found))
    if not any(map(_INDEXED.match, ours)):  # "x_1 = 1, x_2 = 2" for "x = 1 or x = 2"
        theirs = [_INDEXED.sub(r"\1=", value) for value in theirs]
    if len(ours) != len(theirs):
        return False
    for value in ours:
        match = next((other for other in theirs if same_expression(other, gold._replace(answer=value))), None)
        if match is None:
            return False
        theirs.remove(match)
    return True


_INDEXED = re.compile(r"([A-Za-z])_?\{?\d\}?\s?=")


def _distinct(values: list[str]) -> list[str]:
    return list({squeezed(value): value for value in values}.values())


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
