"""Gold answers: the box is removed, the kind inferred, the name of an option turned into its letter.

Not a grader: nothing here looks at what a model wrote. Options are read by `racro.data.options`.
"""

from __future__ import annotations

import math
import re
from typing import Any, get_args

from racro.data.cells import BadGold, Unusable, is_number, quoted, sound
from racro.data.options import LETTERS, Options, options_in, read_options
from racro.grading.choices import letters
from racro.grading.normalise import normalised
from racro.grading.numbers import number
from racro.grading.plain import balanced
from racro.grading.several import parts
from racro.grading.words import yes_or_no
from racro.schema import AnswerKind, Gold

BOX = "\\boxed"

_WHOLE = r"(\d+|[1-9]\d{0,2}(,\d{3})+)"
_INTEGER = re.compile(rf"[+-]?{_WHOLE}(\.0+)?")
_FLOAT = re.compile(rf"[+-]?({_WHOLE}(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_LETTER = re.compile(r"\(?([A-Ja-j])[.):]?\)?")
_LETTER_AND_TEXT = re.compile(r"\(?([A-J])[.):]\s*(.+)", re.DOTALL)


def read_gold(answer: Any, kind: Any, choices: Any, question: str) -> Gold:
    """A gold answer from the cells of a row; `kind` and `choices` are None where the table has no such column.

    With options the answer must name one of them (or several: kind `choices`) and any other kind is overruled: models
    are shown the options and answer with a letter. Without a kind a lone capital letter is a choice too, whose options
    stand in the question or in the image; then integer, float, yesno, expression, list and set, text. Raises BadGold.
    """
    text = unbox(_text(answer))
    if not text:
        raise BadGold("empty answer", quoted(answer))
    if kind is not None and (not isinstance(kind, str) or kind not in get_args(AnswerKind)):
        raise BadGold("unknown kind", f"{quoted(kind)} is none of {', '.join(get_args(AnswerKind))}")
    options = read_options(choices)
    if kind is None and not options.texts and len(text) == 1 and text in LETTERS:
        kind = "choice"
    if kind == "choices" or (kind is None and options.texts and _SEVERAL.fullmatch(text)):
        return _letters(text, options.texts or options_in(question))
    if kind == "choice" or options.texts:
        options = options if options.texts else Options(options_in(question), lettered=True)
        letter = _letter(text, options)
        if isinstance(answer, int) and not isinstance(answer, bool):
            _require_no_index(answer, letter, options)
        return Gold(letter, "choice", options.texts)
    return _number_or_text(text, kind)


def unbox(text: str) -> str:
    """The content of the one `\\boxed{...}` of a gold answer; the answer itself when it has none. Raises BadGold."""
    if "\\" in text and not balanced(text):
        raise BadGold("broken gold", f"unbalanced braces in {text!r}")
    while (start := text.find(BOX)) >= 0:
        opening = start + len(BOX)
        end = _closing_brace(text, opening)
        if end is None or BOX in text[end:]:
            raise BadGold("broken gold", f"not one {BOX}{{}} in {text!r}")
        text = text[opening + 1 : end].strip()
    return text.strip()


def _closing_brace(text: str, opening: int) -> int | None:
    """Index of the brace that closes the one at `opening`; None when there is none. Escaped braces do not count."""
    if text[opening : opening + 1] != "{":
        return None
    depth, i = 0, opening
    while i < len(text):
        if text[i] == "\\":
            i += 1
        elif text[i] == "{":
            depth += 1
        elif text[i] == "}":
            depth -= 1
            if depth == 0:
                return i
        i += 1
    return None


def _letter(text: str, options: Options) -> str:
    """The letter of the option that `text` names by letter, by text, or by both.

    Where the source shows letters, a letter means the letter. In a bare list ["B", "C", "D"] a gold "C" is ambiguous,
    and a row with a wrong gold does more harm than one row less.
    """
    named = set()
    match = _LETTER.fullmatch(text)
    if match and (not options.texts or match[1].upper() in LETTERS[: len(options.texts)]):
        named.add(match[1].upper())
        if options.lettered:
            return match[1].upper()
    wanted, lettered = _plain(text), dict(zip(LETTERS, options.texts, strict=False))
    if (match := _LETTER_AND_TEXT.fullmatch(text)) and not named:
        meant = lettered.get(match[1])
        if not options.texts or (meant is not None and _plain(meant) == _plain(match[2])):
            named.add(match[1])
    named |= {letter for letter, option in lettered.items() if _plain(option) == wanted}
    if not named and (plain := normalised(text)) != text:
        return _letter(plain, options)
    if len(named) != 1:
        what = "no option" if not named else f"options {' and '.join(sorted(named))}"
        raise BadGold("choice answer names no option", f"{text!r} names {what} of {list(options.texts)}")
    return named.pop()


def _require_no_index(answer: int, letter: str, options: Options) -> None:
    """A whole number that is the text of one option may as well be the index of another. Raises BadGold."""
    meant = {LETTERS[i] for i in (answer, answer - 1) if 0 <= i < len(options.texts)} | {letter}
    if len(meant) > 1 and not options.numbers:
        raise BadGold("choice answer names no option", f"{answer} is the text or the index of {' or '.join(meant)}")


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _letters(text: str, options: tuple[str, ...]) -> Gold:
    named = letters(text, options)
    if not named:
        raise BadGold("choice answer names no option", f"{text!r} names none or not only letters of {list(options)}")
    return Gold(", ".join(sorted(named)), "choices", options)


def _number_or_text(text: str, kind: AnswerKind | None) -> Gold:
    plain = text.replace("−", "-")
    if kind in (None, "integer") and _INTEGER.fullmatch(plain) and (kind or "." not in plain):
        return Gold(plain.replace(",", "").split(".")[0].removeprefix("+"), "integer")
    if kind in (None, "float") and _FLOAT.fullmatch(plain):
        return Gold(plain.replace(",", "").removeprefix("+"), "float")
    found = None if _PAIR.fullmatch(text) else number(text)
    if kind in ("integer", "float") and (found is None or (kind == "integer" and found.value.denominator != 1)):
        raise BadGold("answer is not of its kind", f"{text!r} is no {kind}")
    return Gold(text, kind or kind_of(text))


_SEVERAL = re.compile(r"\(?[A-J]\)?(?:\s?(?:,|;|and|&)\s?\(?[A-J]\)?)+")
_PAIR = re.compile(r"\d+,\d{1,2}")  # "1,5": 1.5 or 1 and 5?
_UNIT = (
    r"(?:(?:square|sq|cubic|cu)\.? )?(?:[mgshLl]|[mcdk]m|[mk]g|m[lL]|in|ft|yd|mi|lbs?|secs?|mins?|hrs?|yrs?|rad|degs?"
    r"|°[CF]?|[米厘]+|[A-Za-z]{4,})\s?(?:\^\s?\{?\(?[23]\)?\}?)?"
)
_COUNTED = re.compile(
    rf"(?!.*\b(?:squared|cubed)\b)(?:|-?[A-Za-z]{{2,}}(?:[ -][A-Za-z]{{2,}}){{0,3}}|[€£¥₹]|[\u4e00-\u9fff]+"
    rf"|{_UNIT}(?:\s?(?:/|\bper\b)\s?{_UNIT})?)"
)
"""What may follow a number in an answer that is a number."""
_DATE = re.compile(r"\d{1,4}([/.-])\d{1,2}\1\d{1,4}")  # no quotient of quotients
_WORD = re.compile(r"[^\W\d_]{2,}")
_COMMAND = re.compile(r"\\[a-zA-Z]+|\b(?:and|or)\b")
_MATHS = re.compile(r"\\(?!text\b)[a-zA-Z]+|[=<>≤≥^√π∞∪°]|\d\s?[-+*/]\s?\d|\d[a-z]\b|^[(\[][^()\[\]]+,[^()\[\]]+[)\]]$")


def kind_of(text: str) -> AnswerKind:
    """The kind of an answer that is neither an option nor a bare number, by its form.

    Two values in brackets are an interval as well as a pair: an expression. Values without brackets are a set. The kind
    is part of a problem's digest, so this stays as it is; what the grader reads beyond it ("20 N", "n+1") is compared
    by `racro.grading.target`.
    """
    if _DATE.fullmatch(text):
        return "text"
    found = None if _PAIR.fullmatch(text) else number(text)
    if found is not None and "=" not in text and _COUNTED.fullmatch(found.following):
        whole = found.value.denominator == 1 and not found.percent
        return "float" if found.decimals or found.percent else "integer" if whole else "expression"
    if yes_or_no(text) is not None and text.isalpha() and text.isascii():
        return "yesno"
    if len(parts(text)) > 1 and not _WORD.search(_COMMAND.sub("", text)):
        if text[0] in "([" and len(parts(text[1:-1])) == len(parts(text)):
            return "list" if len(parts(text)) > 2 else "expression"
        return "set"
    return "expression" if _MATHS.search(text) else "text"


def _text(cell: Any) -> str:
    """A cell as text; "" for what counts as absent. Raises BadGold for anything but text, numbers and truth values."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, bool) or is_number(cell):
        return str(cell)
    if isinstance(cell, str):
        try:
            return sound(cell, "answer").strip()
        except Unusable as error:
            raise BadGold(error.reason, error.detail) from error
    raise BadGold("answer is no text", quoted(cell))
