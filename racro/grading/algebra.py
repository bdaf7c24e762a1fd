"""What math-verify and sympy say about mathematical texts. Loaded only in a worker process of the grader's."""

from __future__ import annotations

import re

import sympy
from math_verify import LatexExtractionConfig, parse, verify

LARGEST = 1e300
"""Beyond it a float may be infinite."""

TARGETS = [LatexExtractionConfig(boxed_match_priority=0)]
"""Not its plain expressions: those are the first number in whatever text cannot be parsed as a whole."""
_PLAIN = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"[−–]", "-"),
        (r"(?<!\\)\bsqrt\s?\(([^()]*)\)|√\s?\(([^()]*)\)|√\s?\{([^{}]*)\}|√\s?(\w+)", r"\\sqrt{\1\2\3\4}"),
        (r"π|(?<![\\a-zA-Z])pi\b", r"\\pi "),
        (r"∞|(?<![\\a-zA-Z])inf(?:inity)?\b", r"\\infty "),
        (r"≤|<=", r"\\le "),
        (r"≥|>=", r"\\ge "),
        (r"∪", r"\\cup "),
        (r"∩", r"\\cap "),
        (r"∈", r"\\in "),
        (r"∅", r"\\emptyset "),
        (r"(?<!\\)\b(sin|cos|tan|log|ln)\b", r"\\\1"),
        (r"\*\*", "^"),
        (r"×|\*", r"\\cdot "),
        (r"÷", "/"),
        (r"\\\$|(?<!\\)\$", " "),
    )
)


def _parsed(text: str) -> list[object]:
    for pattern, new in _PLAIN:
        text = pattern.sub(new, text)
    parsed: list[object] = parse(f"${text}$", TARGETS, parsing_timeout=None)
    return parsed


def equal(gold: str, found: str) -> bool:
    """Does math-verify take `found` for `gold`? Raises MemoryError and RecursionError."""
    ours, theirs = _parsed(gold), _parsed(found)
    # The last element is the text itself, which is compared where nothing could be parsed.
    return verify(ours, theirs, timeout_seconds=None, allow_set_relation_comp=True)


def value(text: str) -> float | None:
    """The real value of an expression; None where it has none."""
    expression = next(iter(_parsed(text)), None)
    if not isinstance(expression, sympy.Expr):
        return None
    number = sympy.N(expression.doit())
    return float(number) if number.is_real and number.is_finite and abs(number) < LARGEST else None
