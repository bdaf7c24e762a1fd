"""A reasoner's output + the gold answer -> Verdict. Typed by answer kind; pure and bounded in time.

Not a judge of captions (`racro.embedded.oracle`) and not the reward. Called by `racro.reasoner` and `racro.evaluation`.
Every function is linear in at most LONGEST characters, so that no output can hang a stage: no symbolic algebra, no
regular expression that backtracks, no number of more than DIGITS digits.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

from racro.golds import Gold
from racro.schema import FinishReason, Verdict

LONGEST = 20_000
"""Characters at the end of an output in which the answer is looked for."""
LONGEST_ANSWER = 1_000
"""An answer of more characters is none of the kinds."""
DIGITS = 50
TOLERANCE = Fraction(1, 1000)
"""Relative, for floats; DynaMath's is the same, absolute."""


class Grade(NamedTuple):
    """What became of an output, and what was taken for its answer."""

    verdict: Verdict
    extracted: str | None
    """As it was written; None where nothing was found."""


def grade(response: str, finish_reason: FinishReason, gold: Gold) -> Grade:
    """The verdict on an output. An explicit "unknown" is an answer, and wrong."""
    if finish_reason == "deadline":
        return Grade(Verdict.FAILED, None)
    cut_off = finish_reason == "length"
    # "The answer is 1" may be the beginning of 12; only a closed box survives a cut.
    found = boxed(final_part(response)) if cut_off else extract(response)
    if found is None:
        return Grade(Verdict.TRUNCATED if cut_off else Verdict.UNPARSED, None)
    return Grade(Verdict.CORRECT if equal(found, gold) else Verdict.WRONG, found)


def equal(found: str, gold: Gold) -> bool:
    """Do a found answer and the gold answer say the same?"""
    if len(found) > LONGEST_ANSWER:
        return False
    match gold.kind:
        case "integer" | "float":
            return same_number(found, gold.answer, gold.kind)
        case "choice" | "choices":
            return same_choice(found, gold.answer, gold.choices)
        case _:
            return same_text(found, gold.answer)


def canary(gold: Gold) -> bool:
    """Is the gold answer, boxed, correct against itself? A row where it is not cannot be graded and is dropped."""
    return grade(f"\\boxed{{{gold.answer}}}", "stop", gold).verdict is Verdict.CORRECT


# --- finding the answer -----------------------------------------------------------------------------------------------


def extract(response: str) -> str | None:
    """The answer as written: in the last \\boxed{}, after "the answer is", or a last line that is nothing else."""
    text = final_part(response)
    return boxed(text) or _stated(text)


def final_part(response: str) -> str:
    """What follows the reasoner's thinking, and of that the end."""
    text = response[response.rfind("</think>") + len("</think>") :] if "</think>" in response else response
    text = text.partition("<think>")[0]  # what comes after is thinking that never ended
    return text[-LONGEST:]


_BRACES = re.compile(r"\\boxed\s{0,9}\{|\\.|[{}]", re.DOTALL)


def boxed(text: str) -> str | None:
    """Content of the last closed \\boxed{}, the inner of nested ones; None when there is none or all are empty."""
    found, found_at = None, -1
    opened: list[int | None] = []  # where a box's content begins; None for other braces
    for token in _BRACES.finditer(text):
        if token[0] == "{":
            opened.append(None)
        elif token[0] == "}" and opened:
            start = opened.pop()
            if start is not None and start > found_at and text[start : token.start()].strip():
                found, found_at = text[start : token.start()].strip(), start
        elif token[0].startswith("\\boxed"):
            opened.append(token.end())
    return found


_STATED = re.compile(r"\banswer\s?(?:is|would be|:|=)[ \t:=*]{0,9}([^\n]{1,100})", re.IGNORECASE)
_BARE = re.compile(r"[-+]?\d[\d,./]{0,40}\s?[%°]?|\([A-Za-z]\)|[A-Z]")


def _stated(text: str) -> str | None:
    if statements := _STATED.findall(text):
        return re.split(r"\.(?=\s|$)|;", statements[-1])[0].strip(" *`\t\"'") or None
    last = clean(text.rstrip().rpartition("\n")[2][-200:])
    return last if _BARE.fullmatch(last) else None


# --- normal form ------------------------------------------------------------------------------------------------------

_REWRITES = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"[−–]", "-"),
        (r"≈|\\approx\b", "="),
        (r"\{,\}", ","),
        (r"\\[,!]", ""),
        (r"\\([%$])", r"\1"),
        (r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf|it)|mbox|operatorname)\s?\{([^{}]*)\}", r" \1 "),
        (r"\\[dt]?frac\s?\{([^{}]*)\}\s?\{([^{}]*)\}", r"(\1)/(\2)"),
        (r"\\[dt]?frac\s?(\d)(\d)", r"\1/\2"),
        (r"\s?(?:\\times|\\cdot|×|\*)\s?10\s?\^\s?\{?([-+]?\d{1,2})\}?", r"e\1"),
        (r"\^?\s?\{?\\circ\b\s?\}?", "°"),
        (r"\\[()\[\];: ]|\\(?:left|right|displaystyle)\b|\*\*|[`~$]", " "),
        (r"\s+", " "),
    )
)


def clean(text: str) -> str:
    """LaTeX and Markdown taken off, typographic variants made plain, outer punctuation dropped."""
    for pattern, new in _REWRITES:
        text = pattern.sub(new, text)
    return text.strip().rstrip(".,;: ")


# --- numbers ----------------------------------------------------------------------------------------------------------

_UNIT = re.compile(
    r"(?<=[\d.)])\s?(?:(?:square|cubic|sq|cu) )?(?:°C?|deg(?:ree)?s?|mm|cm|km|m|(?:centi|milli|kilo)?met(?:er|re)s?"
    r"|inch(?:es)?|in|ft|feet|foot|yards?|miles?|mg|kg|g|(?:kilo)?grams?|lbs?|pounds?|s|sec(?:ond)?s?|min(?:ute)?s?"
    r"|h|hours?|days?|weeks?|months?|years?|units?|dollars?|cents?)(?:\s?\^\{?[23]\}?|[²³])?$",
    re.IGNORECASE,
)
_PERCENT = re.compile(r"\s?(?:%|percent)", re.IGNORECASE)
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")
_DECIMAL = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d{1,2})?", re.IGNORECASE)


class Number(NamedTuple):
    """A number as it was written."""

    value: Fraction
    percent: bool
    """Written with a percent sign, by which `value` is not divided."""
    decimals: int
    """Digits after the point; 0 for fractions and powers of ten."""


def number(text: str) -> Number | None:
    """The one number that a text is: "1,200", "7.0", "x = 5", "50 %", "3/4", "5 cm". None for anything else."""
    text = clean(text)
    left, equals, text = text.rpartition("=")
    if equals and re.search(r"[,;<>!≤≥≠]|\b(?:and|or)\b", left):
        return None  # several equations, or no equation
    text = re.sub(r"^\s?([-+]?)\s?[€£]\s?", r"\1", text).strip()
    bare = _PERCENT.sub("", text, 1) if _PERCENT.search(text) else text
    if bare != text and not text.startswith(bare):
        return None
    percent = bare != text
    top, slash, bottom = (bare if percent else _UNIT.sub("", bare)).partition("/")
    parts = [_decimal(top), _decimal(bottom) if slash else Fraction(1)]
    if parts[0] is None or not parts[1]:
        return None
    decimals = 0 if slash or "e" in top.lower() else len(top.partition(".")[2].strip())
    return Number(parts[0] / parts[1], percent, decimals)


def _decimal(text: str) -> Fraction | None:
    text = re.sub(r"^([-+]?)\((.*)\)$", r"\1\2", text.strip())
    if sum(map(str.isdigit, text)) > DIGITS:
        return None
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    return Fraction(text) if _DECIMAL.fullmatch(text) else None


def same_number(found: str, answer: str, kind: Literal["integer", "float"]) -> bool:
    """Integers: equal. Floats: within TOLERANCE, or equal when rounded to the gold answer's decimals.

    50 % equals 0.5 and equals 50: questions for a percentage have golds of both forms.
    """
    gold, value = number(answer), number(found)
    if gold is None:  # the gold answer has a form that is not known here
        return same_text(found, answer)
    if value is None:
        return False
    scales = [Fraction(1)]
    if gold.percent != value.percent:
        scales.append(Fraction(100) if gold.percent else Fraction(1, 100))
    allowed = Fraction(0)
    if kind == "float":
        rounding = Fraction(1, 2 * 10**gold.decimals) if gold.decimals else Fraction(0)
        allowed = max(abs(gold.value) * TOLERANCE, rounding)
    return any(abs(value.value * scale - gold.value) <= allowed for scale in scales)


# --- choices and words ------------------------------------------------------------------------------------------------

_LETTER = re.compile(r"(?:(?:option|choice|answer) )?(\(?)([A-Z])(?![A-Z0-9])(\)?[.:)]?)\s?", re.IGNORECASE)


def same_choice(found: str, answer: str, choices: Sequence[str]) -> bool:
    """Do both name the same option, by letter, by text, or by both?"""
    gold = letter(answer, choices)
    return same_text(found, answer) if gold is None else letter(found, choices) == gold


def letter(text: str, choices: Sequence[str]) -> str | None:
    """The letter of the one option that a text names: "A", "(a)", "Option A", "A. 12", "12". None for two of them."""
    text = clean(text)
    letters = string.ascii_uppercase[: len(choices) or 26]
    options = dict(zip(letters, choices, strict=False))
    start = _LETTER.match(text)
    if start and (named := start[2].upper()) in letters:
        rest = text[start.end() :]
        if not rest or (named in options and same_text(rest, options[named])):
            return named
        others = {key for key in letters if re.search(rf"\b{key}\b", rest)}
        others |= {key for key, option in options.items() if same_text(rest, option)}
        if (start[1] or start[3]) and not others:
            return named
    matching = [key for key, option in options.items() if same_text(text, option)]
    return matching[0] if len(matching) == 1 else None


def same_text(found: str, answer: str) -> bool:
    """The same words in the same order; case, punctuation and a leading article aside. Or the same number."""
    words = _words(answer)
    if not words:  # an answer like "<" or "+" is nothing but punctuation
        return clean(found) == clean(answer)
    if words == _words(found):
        return True
    return number(answer) is not None and same_number(found, answer, "integer")


def _words(text: str) -> str:
    text = unicodedata.normalize("NFKC", clean(text)).casefold()
    text = re.sub(r"(?<=[^\W\d])-(?=[^\W\d])|[^\w\s./%+<>=-]|\.(?!\d)", " ", text)
    return re.sub(r"^(?:an?|the)\s(?=.)", "", " ".join(text.split()))
