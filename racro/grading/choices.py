"""Options of a question, named by letter, by text, by both, or by their value."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from racro.grading.east_asian import IS_NOT
from racro.grading.expressions import same_expression
from racro.grading.nearness import same_number
from racro.grading.numbers import number
from racro.grading.plain import clean
from racro.grading.words import same_text, words
from racro.schema import Gold

_LETTER = re.compile(
    r"(?:(?:故|所以|因此|应|本题|答案|正确)*(?:是|为|[选選](?:[项項]|[择擇]|択肢)?),?:?\s?|答案:?\s?)?"
    r"(?:the )?(?:(?:correct |right )?(?:option|choice|answer|letter|figure|image|diagram)s? (?:is )?)?"
    r"([(\[]?)([A-Z])(?![A-Z0-9'’])([)\]]?[.:)]?)\s?",
    re.IGNORECASE,
)
_NOT_ANOTHER = re.compile(
    r"(?:(?:and|but) )?(?:not|rather than|instead of) (?:option )?\(?[A-Z]\)?[. ]*$", re.IGNORECASE
)
"""What an answer says that it is not: "B, not A"."""
_ALIKE = re.compile(r"\b[ΑΒΕΗАВСЕН]\b")
_LOOKS = dict(zip("ΑΒΕΗАВСЕН", (0, 1, 3, 4, 0, 1, 2, 3, 4), strict=True))
"""Greek and Cyrillic capitals that look like the letters of options."""
_MATHS = re.compile(r"[√π^]|\\(?:[dtc]?frac|sqrt|pi)\b")
_SEPARATOR = re.compile(r"\s?(?:,? and |[和与及或]|[,;/&+|]|\s)\s?", re.IGNORECASE)


def letter(text: str, choices: Sequence[str]) -> str | None:
    """The letter of the one option that a text names: "A", "(a)", "Option A", "A. 12", "12". None for two of them."""
    text = clean(text).strip("\"'“”")
    if not text.isascii():
        text = _ALIKE.sub(lambda char: "ABCEH"[_LOOKS[char[0]]], text)
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    letters = string.ascii_uppercase[: len(choices) or 26]
    options = dict(zip(letters, choices, strict=False))
    start = _LETTER.match(text)
    if start and (named := start[2].upper()) in letters:
        rest = text[start.end() :].lstrip("=:,-– ")
        rest = _NOT_ANOTHER.sub("", rest)
        if not rest or (named in options and same_option(rest, options[named])):
            return named
        if not rest.isascii() and IS_NOT.match(rest):
            return None
        others = {key for key in letters if re.search(rf"(?<![A-Za-z0-9]){key}(?![A-Za-z0-9])", rest)} - {named}
        others |= {key for key, option in options.items() if key != named and same_option(rest, option)}
        marked = rest[:1] >= "\u4e00" or bool(start[1] or start[3]) or (rest.startswith("(") and start[2].isupper())
        if marked and not others:
            return named
        if marked and not text.startswith("A:") and len(others) == 1:
            return None  # the letter of one option with the text of another
    if text.startswith("A:"):  # "Answer:"
        text = text[2:].strip()
    matching = [key for key, option in options.items() if same_option(text, option)]
    # Of two options that are written the same the first stands for both.
    return matching[0] if matching and len({words(options[key]) for key in matching}) == 1 else None


def same_option(text: str, option: str) -> bool:
    """Is a text the text of an option, or its value?"""
    if same_text(text, option):
        return True
    theirs, ours = number(text), number(option)
    if theirs and ours:
        return same_number(theirs, ours, Gold(option, "integer"))
    return bool(_MATHS.search(text) and _MATHS.search(option)) and same_expression(text, Gold(option, "expression"))


def letters(text: str, choices: Sequence[str]) -> frozenset[str] | None:
    """The letters of all options that a text names: "A, C", "A and C", "AC", "(A) (C)", "Options A and C"."""
    if one := letter(text, choices):
        return frozenset(one)
    known = string.ascii_uppercase[: len(choices) or 26]
    plain = re.sub(
        r"^(?:故?(?:应|答案)?选(?:项|择)?:?\s?)?(?:the )?(?:both )?(?:(?:options?|choices?|letters?)\s)?",
        "",
        clean(text).strip("{}[]"),
        flags=re.I,
    )
    if re.fullmatch(rf"[{known}]{{2,10}}", plain):
        return frozenset(plain)
    parts = [part for part in _SEPARATOR.split(re.sub(r"[()\[\].'\"]", " ", plain).strip()) if part]
    named = [letter(part, choices) for part in parts]
    if parts and all(named):
        return frozenset(filter(None, named))
    named = [letter(part, choices) for part in re.split(r"[,;和与及]|\band\b|\n", plain) if part.strip()]
    return frozenset(filter(None, named)) if named and all(named) else None
