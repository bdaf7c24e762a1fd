"""What math-verify and sympy say about mathematical texts. Loaded only in a worker process of the grader's."""

from __future__ import annotations

import re
from functools import lru_cache

import math_verify.grader
import sympy
from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify
from sympy.polys.polyerrors import CoercionFailed, PolynomialError

LARGEST = 1e300
"""Beyond it a float may be infinite."""

_PLAIN_LATEX = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="all", equations=False
)
"""As by default, but units stay: it takes the s of "3x+2s" for one, and so 3x+2s for 3x+2."""
TARGETS = [LatexExtractionConfig(boxed_match_priority=0, normalization_config=_PLAIN_LATEX)]
"""Not its plain expressions: those are the first number in any text that cannot be parsed as a whole."""
_GREEK = ["alpha", "beta", "gamma", "delta", "epsilon", "theta", "lambda", "mu", "phi", "psi", "omega", "rho", "sigma"]
_LETTERS = str.maketrans(dict(zip("αβγδεθλμφψωρσ", (rf"\{name} " for name in _GREEK), strict=True)))
_ARROW = re.compile(r"\\(vec|hat|bar|overrightarrow)\s+([A-Za-z])")
_PLAIN = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"[−–]", "-"),
        (r"\\(?:mathrm|text|operatorname)\s?\{\s?(sin|cos|tan|log|ln|exp)\s?\}", r"\\\1 "),
        (r"(?<!\\)\bsqrt\s?\(([^()]*)\)|√\s?\(([^()]*)\)|√\s?\{([^{}]*)\}|√\s?(\w+)", r"\\sqrt{\1\2\3\4}"),
        (r"π|(?<![\\a-zA-Z])pi\b", r"\\pi "),
        (r"∞|(?<![\\a-zA-Z])inf(?:inity)?\b", r"\\infty "),
        (r"≤|<=", r"\\le "),
        (r"≥|>=", r"\\ge "),
        (r"∪", r"\\cup "),
        (r"∩", r"\\cap "),
        (r"∈", r"\\in "),
        (r"∅", r"\\emptyset "),
        (r"(?<![\\A-Za-z])(sin|cos|tan|log|ln|exp)(?![A-Za-z0-9])", r"\\\1"),
        (r"\*\*", "^"),
        (r"[×·*]", r"\\cdot "),
        (r"÷", "/"),
        (r"\\\$|(?<!\\)\$", " "),
    )
)


EXACT, DECIMAL = 1e-12, 5e-6
"""What values may differ by, relatively: two that are computed, and two of which one is a decimal (six digits)."""
NOISE = 1e-15
"""What may be left of a coefficient when decimals cancel, relative to the largest."""
MARK = 997
"""The index by which a capital is told from its small letter."""
_absolute = math_verify.grader.sympy_numeric_eq


def _relative(one: sympy.Basic, other: sympy.Basic, *rounding: int) -> bool:
    """Are two values the same, relatively? math-verify rounds to six decimals and takes 2^-99 for 2^-98."""
    if isinstance(one, sympy.MatrixBase) or isinstance(other, sympy.MatrixBase):
        return bool(_absolute(one, other, *rounding))  # which comes back here for each element
    decimal = one.has(sympy.Float) or other.has(sympy.Float)
    near = DECIMAL if decimal else EXACT
    if one.free_symbols or other.free_symbols:
        if (same := _same_polynomial(one, other)) is not None:
            return same
        if not decimal and not _absolute(one, other, *rounding):
            return False
        if not decimal and sympy.expand(one - other) == 0:
            return True
        a, b = (sympy.expand(value).evalf().as_coefficients_dict() for value in (one, other))
        if a.keys() | b.keys() and all(number.is_real for number in (*a.values(), *b.values())):
            noise = NOISE * float(max(map(abs, (*a.values(), *b.values())))) if decimal else 0.0
            pairs = [(float(a[term]), float(b[term])) for term in a.keys() | b.keys()]
            return all(abs(x - y) <= max(near * max(abs(x), abs(y)), noise) for x, y in pairs)
        return False
    if any(math_verify.grader.get_pct_val(value) is not None for value in (one, other)):
        return bool(_absolute(one, other, *rounding))
    a, b = (math_verify.grader.safe_sympy_doit(value) for value in (one, other))
    if a == b or not (a.is_finite and b.is_finite) or (not decimal and a.is_Rational and b.is_Rational):
        return bool(a == b)
    apart = abs((a - b).evalf(15))
    return bool(apart == 0 or getattr(apart, "_prec", 0) == 1 or apart <= near * max(abs(sympy.N(a)), abs(sympy.N(b))))


LARGEST_POWER = 20
"""Of a polynomial that is multiplied out."""
_simplified = math_verify.grader.sympy_symbolic_eq


@lru_cache(64)
def _same_polynomial(one: sympy.Basic, other: sympy.Basic) -> bool | None:
    """Are two polynomials with rational coefficients the same? None where they are none: simplification decides."""
    if not (isinstance(one, sympy.Expr) and isinstance(other, sympy.Expr)) or (one - other).has(sympy.Float):
        return None
    powers = one.atoms(sympy.Pow) | other.atoms(sympy.Pow)
    if not all(power.exp.is_Integer and 0 <= power.exp <= LARGEST_POWER for power in powers):
        return None
    try:
        return bool(sympy.Poly(one - other, *one.free_symbols | other.free_symbols, domain="QQ").is_zero)
    except (PolynomialError, CoercionFailed):
        return None


def _symbolic(one: sympy.Basic, other: sympy.Basic) -> bool:
    """Are two expressions the same when they are simplified?"""
    same = _same_polynomial(one, other) if getattr(one, "free_symbols", None) else None
    return bool(_simplified(one, other)) if same is None else same


math_verify.grader.sympy_numeric_eq = _relative
math_verify.grader.sympy_symbolic_eq = _symbolic


@lru_cache(256)
def _parsed(text: str) -> list[object]:
    """What math-verify reads in a text; kept, because many answers are compared with one gold answer."""
    text = _ARROW.sub(r"\\\1{\2}", text.translate(_LETTERS))
    for pattern, new in _PLAIN:
        text = pattern.sub(new, text)
    text = _with_factors(text) if "d" in text else text
    parsed: list[object] = parse(f"${text}$", TARGETS, parsing_timeout=None)
    return parsed


_D = re.compile(r"\\[A-Za-z]+|[A-Za-z]{5,}|d")
"""A letter d, and what it is no factor in: a command or a word."""
_FOLLOWING = re.compile(rf"\s*(?:[A-Za-z]|\\(?:{'|'.join(_GREEK)}|tau|eta|pi)(?![A-Za-z])|(\\[A-Za-z]))")
"""What math-verify takes for the variable of a differential; a function or an operator is none, "d\\sqrt{2}"."""
_CALCULUS = re.compile(
    r"\\int|∫|\\(?:text|mathrm|operatorname|partial)|d[a-z]?\s?/\s?d|frac\s?\{\s?d[^{}]{0,3}\}\s?\{\s?d"
)


def _with_factors(text: str, everywhere: bool = False) -> str:
    """A text where a d before a function is a factor, or every d is: "dc" is else one variable, a differential."""

    def bracketed(found: re.Match[str]) -> str:
        following = _FOLLOWING.match(text, found.end()) if found[0] == "d" else None
        return "{d}" if following and (everywhere or following[1]) else found[0]

    return _D.sub(bracketed, text)


def _alone(text: str) -> bool:
    """Has a text a d that can be no differential: "cd", "d - c"?"""
    return any(found[0] == "d" and not _FOLLOWING.match(text, found.end()) for found in _D.finditer(text))


_LETTER = re.compile(r"\\[A-Za-z]+|[A-Za-z]")


def _both_cases(*texts: str) -> set[str]:
    """The capitals that a text has as small letters too."""
    found = set[str]()
    for text in texts:
        letters = {letter for letter in _LETTER.findall(text) if len(letter) == 1}
        found |= {letter for letter in letters if letter.isupper() and letter.lower() in letters}
    return found


def equal(gold: str, found: str) -> bool:
    """Does math-verify take `found` for `gold`? Raises MemoryError and RecursionError."""
    if capitals := _both_cases(gold, found):  # which it takes for small ones
        gold, found = (
            _LETTER.sub(lambda one: f"{one[0].lower()}_{{{MARK}}}" if one[0] in capitals else one[0], text)
            for text in (gold, found)
        )
    if not _CALCULUS.search(gold + found) and any(map(_alone, (gold, found))):
        gold, found = (_with_factors(text, everywhere=True) for text in (gold, found))
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
