"""The answer in free prose: the concluding sentence read for the kind of answer that was asked for.

For outputs without a box: of models that were not asked for one, as in the benchmarks' published runs. Reads from the
end and gives up where a sentence is ambiguous; an output that says it cannot answer has no answer.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence

from racro.golds import Gold
from racro.grading import choices, numbers
from racro.grading.plain import clean
from racro.grading.words import words, yes_or_no

SENTENCES = 6
"""Sentences at the end of an output that are read."""
LONGEST = 600
"""Characters of a sentence that are read, at its end."""

_END = re.compile(r"(?<=[.!?。])[\s*]+|\n+|。")
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_POLITE = re.compile(
    r"\b(?:hope (?:this|that|it)|let me know|anything else|other questions|help you|feel free|note that)\b",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b(?:can(?:not|'t|’t)|unable|impossible|not possible|not provided?|does(?: not|n't|n’t) provide|no information"
    r"|not enough|more (?:information|context)|none of the|mistake|not (?:one of|among|an option|available|listed)"
    r"|no (?:option|correct|answer)|insufficient|error in)\b|题目|错误",
    re.IGNORECASE,
)


def sentences(text: str) -> Iterator[str]:
    """The sentences at the end that may hold an answer, the last first; none where it is refused."""
    parts = [part.strip() for part in _END.split(_CODE.sub("\n", text)) if part.strip()]
    kept = [part for part in parts if not _POLITE.search(part)]
    for sentence in kept[: -SENTENCES - 1 : -1]:
        if _REFUSAL.search(sentence):
            return
        yield sentence[-LONGEST:]


def conclusion(text: str, gold: Gold) -> str | None:
    """The answer that the last sentences come to; None where they come to none of the kind."""
    for sentence in sentences(text):
        match gold.kind:
            case "choice":
                found = option_in(sentence, gold.choices)
            case "integer" | "float":
                found = number_in(sentence)
            case "yesno":
                found = None if yes_or_no(sentence) is None else sentence
            case _:
                return None
        if found:
            return found
    return None


_NEGATED = re.compile(r"\b(?:not|incorrect|wrong|isn't|neither|nor|cannot)\b", re.IGNORECASE)
_MARKED = re.compile(
    r"\(([A-Z])\)|\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer)s? (?:is )?\*{0,2}\(?([A-Z])\b|\*\*([A-Z])\*\*|^([A-Z])[.:)]"
)


def option_in(sentence: str, options: Sequence[str]) -> str | None:
    """The letter of the one option that a sentence names, by a marked letter or by its text."""
    if _NEGATED.search(sentence):
        return None
    known = string.ascii_uppercase[: len(options) or 26]
    marked = {letter for found in _MARKED.findall(sentence) for letter in found if letter and letter in known}
    if marked:
        return marked.pop() if len(marked) == 1 else None
    plain, named = f" {words(sentence)} ", {}
    for letter, option in zip(known, options, strict=False):
        if (wanted := words(option)) and (at := plain.rfind(f" {wanted} ")) >= 0:
            named[letter] = (at, at + len(wanted))
    spans = named.values()
    whole = {
        k: (a, b) for k, (a, b) in named.items() if not any(c <= a and b <= d and (a, b) != (c, d) for c, d in spans)
    }
    return next(iter(whole)) if len(set(whole.values())) == 1 else None


_TOKEN = re.compile(rf"(?<![\w.,^_{{-])-?(?:[$€£]\s?)?{numbers._DECIMAL}(?:\s?/\s?\d+)?(?![\w^])\s?(?:%|°)?")
_ANNOUNCED = re.compile(
    r"(?:=|\b(?:is|are|was|were|be|equals?|needs?|costs?|has|have|had|get|gives?))\s(?:\w+\s){0,2}$"
)


def number_in(sentence: str) -> str | None:
    """The number that a sentence comes to: the last in bold, the last after "=" or "is", or the only one."""
    for bold in re.findall(r"\*\*([^*]+)\*\*", sentence)[::-1]:
        if numbers.number(bold):
            return str(bold)
    plain = clean(sentence)
    tokens = list(_TOKEN.finditer(plain))
    announced = [token for token in tokens if _ANNOUNCED.search(plain[: token.start()])]
    values = {numbers.number(token[0]) for token in tokens}
    if announced:
        return announced[-1][0].strip()
    return tokens[0][0].strip() if len(values) == 1 else None


def readable(text: str, gold: Gold) -> bool:
    """Is a text an answer of the kind that was asked for?"""
    match gold.kind:
        case "choice":
            return choices.letter(text, gold.choices) is not None
        case "choices":
            return choices.letters(text, gold.choices) is not None
        case "integer" | "float":
            return numbers.number(text) is not None
        case "yesno":
            return yes_or_no(text) is not None
        case _:
            return True
