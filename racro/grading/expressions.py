"""Expressions, equations, intervals, and several values: by own rules where those decide, by algebra where not."""

from __future__ import annotations

import re
from fractions import Fraction

from racro.grading import symbolic
from racro.grading.english import ENGLISH, whole
from racro.grading.measures import counted_unit
from racro.grading.nearness import same_number
from racro.grading.numbers import Number, attached, monomial, noun, number
from racro.grading.plain import NESTED, balanced, clean, nested, undressed
from racro.grading.ranks import rank
from racro.grading.scales import shortened
from racro.grading.units import Readings, converted, unit
from racro.grading.words import same_product, same_text
from racro.schema import Gold

SIX_DIGITS = Fraction(5, 10**6)
"""Relative; what rounding to six digits changes at most: 0.166667 for 1/6."""
NOISE = Fraction(1, 10**9)
"""Relative; what decimals that have an end may differ by: 0.30000000000000004 for 0.3."""

_WORDS = re.compile(r"[^\W\d_]{2,}(?:(?:[ ']|(?<=\w{3})-|-(?=\w{3}))[^\W\d_]+)*")  # "ad-bc" is none
_MATHS = re.compile(r"\d|\\[a-zA-Z]+|[πe√∞]")


def same_quantity(found: str, gold: Gold) -> bool:
    """Two numbers, either of which may be written as an expression: "\\sqrt{2}", "2^{10}", "\\pi/4 rad"."""
    ours, theirs = number(gold.answer), number(found)
    if clean(found) == clean(gold.answer):
        return True
    if monomial(found) and not shortened(clean(found), gold.question):
        return False
    plain = clean(found)
    if " " in plain and (portion := _PORTION.fullmatch(plain)):
        found = portion[1] if gold.kind == "integer" else _quotient(portion)
        theirs = number(found)
    elif gold.kind == "integer" and plain[-1:].isalpha() and (place := rank(plain)) is not None:
        if "how many" in gold.question.lower():
            return False  # "3rd"
        theirs = Number(Fraction(place))
    if (
        gold.unit
        and theirs
        and theirs.units
        and ours
        and theirs.value != ours.value
        and _repeated(plain, gold.question)
    ):
        return False  # "2 minutes" for "How many seconds are 2 minutes?"
    if _ORDINAL.match(gold.answer) and same_text(found, gold.answer):
        return True
    if ours is None and not _MATHS.search(gold.answer):
        return same_text(found, gold.answer)
    if theirs is None and not _MATHS.search(found):
        return False
    if (
        ours
        and theirs is None
        and attached(ours, gold.answer)
        and re.search(rf"(?<![a-z]){ours.following}(?![a-z])", found)
    ):
        return same_expression(found, gold)
    ours, theirs = ours or _computed(gold.answer), theirs or _computed(found)
    if ours and theirs:
        ours, theirs = (
            one._replace(units=_angle(text, one.units, units))
            for one, units, text in (
                (ours, theirs.units, gold.answer),
                (theirs, ours.units or (unit(clean(gold.unit)) if gold.unit else ()), found),
            )
        )
    if ours is None or theirs is None:
        return False
    counted = counted_unit(gold.question) if theirs.units and not (gold.unit or ours.units) else None
    if counted and converted(theirs.value, theirs.units, unit(counted)):
        gold = gold._replace(unit=counted)  # "10 kg" for "How many pounds"
    return same_number(theirs, ours, gold)


def _repeated(text: str, question: str) -> bool:
    return text in question and re.search(rf"(?<![\w.]){re.escape(text)}(?!\w)", question) is not None


_ORDINAL = re.compile(r"\d+(?:st|nd|rd|th)\b")
_PORTION = re.compile(rf"(\d{{1,6}}|{ENGLISH}) (?:out of|in)(?: every)? (\d{{1,6}}|{ENGLISH})", re.IGNORECASE)
"""A part of a number of things: "3 out of 4", "one in five"."""
_E_NOTATION = re.compile(r"[-+]?\d+(?:\.\d+)?[eE][-+]?\d{1,3}")
_PI = re.compile(r"π|\\pi(?![a-zA-Z])|\bpi\b")


def _angle(text: str, units: Readings, other: Readings) -> Readings:
    """The unit of an angle: multiples of π beside degrees are radians."""
    if units or not other or not _PI.search(text) or not set(other) & set(unit("degree")):
        return units
    return unit("rad")


def _quotient(portion: re.Match[str]) -> str:
    return f"{whole(portion[1])}/{whole(portion[2])}"


def counted(text: str) -> bool:
    """Is a text an ordinal or a part of a number of things: "the third floor", "3 out of 4"?"""
    plain = clean(text)
    return rank(plain) is not None or _PORTION.fullmatch(plain) is not None


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
    text, units = measured(text)
    if not computable(text) or nested(text) > NESTED:
        return None
    value = symbolic.value(undressed(text).rpartition("=")[2])
    return None if value is None else Number(Fraction(value), units=units)


_LAST_WORDS = re.compile(
    r"(?:\\[,;:! ]|[~\s])*"
    r"((?:\\(?:text|math|mbox|operatorname|rm|Omega|mu|circ|degree)|(?<=[\d)}°π\s])[A-Za-zµμΩ°€£¥])[^=<>|]{0,60})$"
)
_PRODUCT = re.compile(r"[a-z]{2,3}")
_JOINED = re.compile(r"\S$|\\[a-z]+\s$")
"""The end of a text where letters go on with a product; the space behind a command of LaTeX is none."""
_COMMAND = re.compile(r"\\[a-z]+\s$")
_DECIMAL = re.compile(r"\s*-?\d*\.\d+\s*")
_LONE = re.compile(r"[A-Za-z](?:\^\{?-?\d\}?)?")
_OPERATORS = "+-*/=·× "  # behind one stands a term and no unit: "ab + cd"
_UPRIGHT = re.compile(
    r"\\(?:text|math|mbox|rm|operatorname|Omega|circ|degree)|[°Ω/]|(?<![A-Za-z])[A-Za-zµμ]{2,}(?![A-Za-z])"
)


def measured(text: str) -> tuple[str, Readings]:
    """An expression without the unit that it ends with, and that unit: "2\\sqrt{3}\\text{ cm}", "\\pi/4 rad".

    A letter in italics is a unit only behind a number and a space: "5m" and "m g h" are products.
    """
    plain = undressed(text)
    found = _LAST_WORDS.search(plain)
    while found is not None:
        before, last = plain[: found.start()], found[1]
        value = computable(before) or _DECIMAL.fullmatch(before)
        lone = value and _LONE.fullmatch(last) and plain[found.start(1) - 1].isspace()
        if lone and last[0] not in "ms" and _COMMAND.search(plain[: found.start(1)]):
            lone = None  # "4\\pi d"
        if (lone or _UPRIGHT.search(last)) and balanced(last) and before.rstrip(_OPERATORS) == before.rstrip() != "":
            if known := unit(clean(last)):
                return before.rstrip("^"), known  # 30^\circ
            product = _PRODUCT.fullmatch(last) and _JOINED.search(plain[: found.start(1)])
            if noun(clean(last)) and computable(before) and not product:  # "2\\sqrt{3} apples"
                return before, ()
        found = _LAST_WORDS.search(plain, found.start(1) + 1)
    return text, ()


_POINT = re.compile(r"^\s*[A-Z]'?\s?=?\s?(?=(?:\\left)?\([^()]*,)")
"""The name of a point before its coordinates: "P(3, 4)"."""


def same_expression(found: str, gold: Gold) -> bool:
    """Do two expressions, equations or intervals say the same? Raises GraderFailed."""
    answer = gold.answer
    if portion := _PORTION.fullmatch(clean(found)):
        found = _quotient(portion)
    if answer[:1] == "(":
        found = _POINT.sub("", found)
    ours, theirs = squeezed(answer), squeezed(found)
    if ours == theirs:
        return True
    if not ("=" in ours and ("=" in theirs or not _NAME.fullmatch(ours.partition("=")[0]))):
        one, other = number(answer), number(found)
        spelled = other and other.units and len(other.following) > 1 and not monomial(answer)  # "12 volts" for "12V"
        if one and other and not attached(other, found) and (spelled or not attached(one, answer)):
            return same_number(other, one, _asked(gold, one, other))
    if _WORDS.fullmatch(clean(answer)):
        return same_text(found, answer) or same_product(found, gold)
    if nested(found) > NESTED:
        return False
    (answer, ours_in), (found, theirs_in) = measured(answer), measured(found)
    ours_in, theirs_in = _angle(answer, ours_in, theirs_in), _angle(found, theirs_in, ours_in)
    converting = bool(ours_in and theirs_in and ours_in != theirs_in)
    if converting or gold.tolerance is not None or gold.precision is not None:
        one, other = number(answer) or _computed(answer), number(found) or _computed(found)
        if one and other:
            one, other = one._replace(units=ours_in), other._replace(units=theirs_in)
            return same_number(other, one, _asked(gold, one, other, near=SIX_DIGITS))
        if converting:
            return False
    if _E_NOTATION.fullmatch(found.strip()) and computable(answer) and (value := _computed(answer)):
        power = number(found)  # "1e-3": for math-verify e is a number there
        return power is not None and same_number(power, value, _asked(gold, value, power, near=NOISE))
    if _another_letter(found, answer, gold.question):
        return False
    return symbolic.equal(undressed(answer), undressed(found))


_LETTER = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])")


def _another_letter(found: str, answer: str, question: str) -> bool:
    """Is a letter the other case of the answer's, and means another thing: it is in the question too, or a unit?"""
    ours, theirs = (set(_LETTER.findall(text)) for text in (answer, found))
    recased = {letter for letter in theirs - ours if letter.swapcase() in ours}
    if not recased:
        return False
    value = number(found)
    units = any(unit(letter) and unit(letter.swapcase()) for letter in recased)  # "3T" and "3t"
    a_unit = units or (value is not None and value.units and re.search(r"\d[a-z]", answer))
    return bool(a_unit or recased & set(_LETTER.findall(question)))


def _asked(gold: Gold, one: Number, other: Number, near: Fraction | None = None) -> Gold:
    """How near values must be: as near as the gold asks for; else fractions and integers equal, decimals nearly."""
    if gold.tolerance is not None or gold.precision is not None:
        return gold._replace(kind="float")
    if near is None and not (one.rounded or other.rounded):
        return gold._replace(kind="integer")
    endless = any(read.value.denominator != 1 and not read.rounded for read in (one, other))
    near = near or (SIX_DIGITS if endless else NOISE)
    return gold._replace(kind="float", tolerance=float(abs(one.value) * near))


_SYMBOLS = {
    **{"∠": r"\angle", "∥": r"\parallel", "⊥": r"\perp", "⟂": r"\perp", "△": r"\triangle", "▵": r"\triangle"},
    **{"≅": r"\cong", "∼": r"\sim", "∽": r"\sim", "⟨": "(", "⟩": ")", "∅": r"\emptyset", "ℝ": r"\mathbb{R}"},
    **{r"\langle": "(", r"\rangle": ")", r"\lt": "<", r"\gt": ">", r"\varnothing": r"\emptyset", r"\neq": r"\ne"},
}
_SYMBOL = re.compile(r"\\[a-zA-Z]+|[^\x00-\x7f]")
_GAPS = re.compile(r"(?<!\d) | (?!\d)")
_LOW = re.compile(r"(?<=[A-Za-z)])_\{?(\d+)\}?")


def squeezed(text: str) -> str:
    """For a comparison letter by letter: one sign for each symbol, no index marks, no spaces but those of "2 1/2"."""
    if "\\" in text or not text.isascii():
        text = _SYMBOL.sub(lambda sign: _SYMBOLS.get(sign[0], sign[0]), text)
    text = clean(text).replace(";", ",")
    if "_" in text:
        text = _LOW.sub(r"\1", text)
    return _GAPS.sub("", text) if " " in text else text
