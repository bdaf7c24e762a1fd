"""The answer in free prose: the concluding sentences read for the kind of answer that was asked for.

For outputs without a box: of models that were not asked for one, as in the benchmarks' published runs. Reads from the
end and passes over sentences that are ambiguous; an output that says it cannot answer has no answer.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from racro.grading import choices, expressions, figures, numbers
from racro.grading.asking import relevant
from racro.grading.moments import told
from racro.grading.quantities import announced, concluded_number
from racro.grading.restating import answers
from racro.grading.sentences import LISTED, LONGEST, REFUSAL, copies_options, sentences
from racro.grading.solutions import is_empty
from racro.grading.words import CORRECTED, words, yes_or_no
from racro.schema import Gold


def conclusion(text: str, gold: Gold) -> str | None:
    """The answer that an output comes to; None where it comes to none of the kind."""
    read = sentences(text)
    match gold.kind:
        case "choice":
            known = string.ascii_uppercase[: len(gold.choices)]
            ways = {yes_or_no(option): letter for letter, option in zip(known, gold.choices, strict=False)}
            if len(gold.choices) == 2 and ways.keys() == {True, False}:
                if any(_mixed(sentence, gold.choices) for sentence in read):
                    return None
                return ways.get(stance(read, gold.question))
            return next(filter(None, (option_in(sentence, gold.choices, gold.question) for sentence in read)), None)
        case "choices":
            return next(filter(None, (letters_in(sentence, gold.choices) for sentence in read)), None)
        case "integer" | "float":
            return concluded_number(read, gold)
        case "expression" | "list" | "set" if is_empty(gold.answer):
            return next(filter(is_empty, read), None)
        case "expression" if figures.is_figure(gold):
            return next(filter(figures.said, read), None) or next(filter(None, map(formula, read)), None)
        case "expression":
            return next(filter(None, map(formula, read)), None) or concluded_number(read, gold)
        case "yesno":
            said = stance(read, gold.question)
            return None if said is None else "yes" if said else "no"
        case "text":
            if is_empty(gold.answer) and (none := next(filter(is_empty, read), None)):
                return none
            if moment := next((sentence for sentence in read if told(sentence, gold.answer)), None):
                return moment
            return next((sentence for sentence in read if answers(sentence, gold.question)), None)
        case _:
            return None


# --- options ----------------------------------------------------------------------------------------------------------

_NEGATED = re.compile(r"\b(?:not|incorrect|wrong|neither|nor|no|never)\b|n['’]t\b", re.IGNORECASE)
_MARKED = re.compile(
    r"\(([A-Z])\)|\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer)s? (?:is )?\*{0,2}\(?([A-Z])\b|\*\*([A-Z])\*\*|^([A-Z])[.:)]"
)
_LABELLED = re.compile(r"\(?([A-Z])[.:)]\s*(.{1,100})")
_CHOSEN = re.compile(
    r"(?:\b(?:choos(?:e|ing)|chose|pick(?:ing)?|select(?:ed|ing)?|go(?:ing)? with|opt(?:ing)? for"
    r"|settl(?:e|ing) (?:on|for)|vot(?:e|ing)(?: for)?|conclude|leaves(?: us with)?|match(?:es)?|corresponds to"
    r"|(?:would|['’]d) say)\s"
    r"|\b(?:choice|pick|selection|letter|guess|(?:correct|right|best|only) one|final|selected|correct|option|it"
    r"|this|that|which)(?:['’]s|(?: is| was| must be| has to be| (?:would|should|will|can only) be)|:)\s"
    r"|^(?:so|thus|therefore|hence|=>|⇒|→|∴),?\s)(?i:option |choice |letter |answer )?[*(\"']{0,3}"
    r"([A-HJ-Z])\b(?!\s?[+*/^=<>]|[-(']|[*)\"']{0,3} "
    r"(?!(?:as|and|because|based|due|for|given|here|is|or|since|which|with)\b)[a-z0-9])",
    re.IGNORECASE,
)
"""A letter behind words of choosing, with no word behind that it may be the article of, or a part of a formula."""
_ANOTHER = re.compile(r"[\"'*)]{0,3}(?:\s?[,/&]|,? (?:or|and))\s?[*(\"']{0,3}(?:option )?[A-Z]\b(?![a-z'’])")


def option_in(sentence: str, options: Sequence[str], question: str = "") -> str | None:
    """The letter of the one option that a sentence names, by a marked letter, its text, or its value."""
    known = string.ascii_uppercase[: len(options) or 26]
    if _NEGATED.search(sentence):
        return None
    if _mixed(sentence, options):
        return None
    marked = {letter for found in _MARKED.findall(sentence) for letter in found if letter and letter in known}
    if marked:
        return marked.pop() if len(marked) == 1 else None
    chosen = [found for found in _CHOSEN.finditer(sentence) if found[1] in known]
    if chosen:
        several = len({found[1] for found in chosen}) > 1 or any(_ANOTHER.match(sentence, f.end()) for f in chosen)
        return None if several else chosen[-1][1]
    if not any(map(str.isdigit, "".join(options))):
        sentence = relevant(sentence, question)
    named = _by_text(sentence, options)
    if named:
        return named[0] if len(named) == 1 else None
    return _by_value(sentence, options)


def _mixed(sentence: str, options: Sequence[str]) -> bool:
    """Has a sentence the letter of one option with the text of another?"""
    labelled = _LABELLED.fullmatch(sentence)
    other = choices.letter(labelled[2], options) if labelled else None
    return labelled is not None and other is not None and other != labelled[1]


_CAPITALS = re.compile(r"(?<![\w'’&])([A-Z])(?![\w'’&])(?! [a-z]{2,} (?:is|was|has)\b)")
_EITHER = re.compile(r"(?<!\w)[A-Z]\)?,? or \(?[A-Z](?!\w)")
_TITLE = re.compile(r"[A-Z][a-z]+ $")


def letters_in(sentence: str, options: Sequence[str]) -> str | None:
    """The letters that stand alone in a sentence, "A, C"; "A" as its first word is an article."""
    known = string.ascii_uppercase[: len(options) or 26].replace("I", "")
    capitals = [found for found in _CAPITALS.finditer(sentence) if found[1] in known]
    named = [
        found[1]
        for found in capitals
        if not (found.start() == 0 and re.match(r"A (?!and\b|or\b|as well)[a-z]", sentence))
        and not (sentence[found.end() : found.end() + 1] == ":" and _TITLE.search(sentence[: found.start()]))
    ]
    refused = _NEGATED.search(sentence) or _EITHER.search(sentence)
    return None if refused else ", ".join(dict.fromkeys(named)) or None


_ITEM = re.compile(r"\s*(?:[-*•+]|\d{1,2}[.)])?\s*[*(\"']{0,3}(?:\\text\{)?([A-Z])[*)}\"'.,;]{0,5}\s*")


def options_in_lines(text: str, options: Sequence[str]) -> str | None:
    """The letters of a list at the end of an output that has one on each line, "A, C"; None for fewer than two."""
    known = string.ascii_uppercase[: len(options) or 26]
    named: list[str] = []
    for line in reversed(text.rstrip()[-LONGEST:].splitlines()):
        item = _ITEM.fullmatch(line)
        if line.strip() and (item is None or item[1] not in known):
            break
        if item is not None:
            named.append(item[1])
    return ", ".join(dict.fromkeys(named[::-1])) if len({*named}) > 1 else None


def _by_text(sentence: str, options: Sequence[str]) -> list[str]:
    """The letters of the options whose text stands in a sentence; of those written the same the first."""
    plain, spans = f" {words(sentence)} ", {}
    for letter, option in zip(string.ascii_uppercase, options, strict=False):
        if (wanted := words(option)) and (at := plain.rfind(f" {wanted} ")) >= 0:
            spans[letter] = (at, at + len(wanted))
    longest = {
        letter: (start, end)
        for letter, (start, end) in spans.items()
        if not any(a <= start and end <= b and b - a > end - start for a, b in spans.values())
    }
    return [letter for letter, span in longest.items() if span not in [longest[k] for k in longest if k < letter]]


def _by_value(sentence: str, options: Sequence[str]) -> str | None:
    found = announced(sentence)
    return choices.letter(found, options) if found and numbers.number(found) else None


# --- yes and no -------------------------------------------------------------------------------------------------------

_FEW = frozenset({"less", "fewer", "smaller", "lower", "below", "shorter", "minimum", "lowest", "smallest"})
_MANY = frozenset({"more", "greater", "larger", "higher", "above", "longer", "maximum", "highest", "largest"})
_FILLING = (
    "a an the is are was were be do does did has have had of in on at to it its this that there than and or if by for "
    "with choose from following please can could would which what"
)
_FILLERS = frozenset(_FILLING.split())
_LABEL = re.compile(r"^\(?[A-Z](?:[).:]+\s|\n)")
_NAMED = re.compile(r"\([A-Z]\)\s*([A-Za-z]+)")
_JUDGED = re.compile(
    r"\b(?:statement|claim|assertion|conclusion) "
    r"(?:is|must be) (not )?(true|false|correct|incorrect|right|wrong)\b[^?]*$",
    re.IGNORECASE,
)
_HEDGED = re.compile(r"\b(?:either\b.*\bor|chance|guess)\b", re.IGNORECASE)
ECHO = 0.6
"""Share of a question's words that come again in a sentence that restates it."""


_ENDING = re.compile(r",\s(?:(?:so|thus|therefore|hence)\s)?\*{0,2}(yes|no)\b[*.!]{0,4}$", re.IGNORECASE)
"""Yes or no as the last word: "12 is more than 9, so yes."."""


def stance(read: Sequence[str], question: str) -> bool | None:
    """What sentences answer: yes or no by the first word of one, or by restating the question, plainly or negated."""
    for sentence in read:
        said = yes_or_no(_LABEL.sub("", CORRECTED.sub("", sentence)).partition(",")[0].partition(".")[0])
        if said is None and (named := _NAMED.findall(sentence)):
            said = yes_or_no(named[-1])
        if said is None and (ending := _ENDING.search(sentence)):
            said = yes_or_no(ending[1])
        if said is None and (judged := _JUDGED.search(sentence)):
            said = yes_or_no(judged[2]) != bool(judged[1])
        if said is not None:
            return said
    if any(_HEDGED.search(sentence) for sentence in read):
        return None
    asked = _content(question)
    shares = [len(asked & _content(s)) / len(asked) if asked and not s.endswith("?") else 0.0 for s in read]
    if max(shares, default=0.0) < ECHO:
        return None
    sentence = read[shares.index(max(shares))]
    told = _content(sentence)
    turned = any(asked & one and told & other and not told & one for one, other in ((_FEW, _MANY), (_MANY, _FEW)))
    return turned == bool(_NEGATED.search(sentence))


def _content(text: str) -> frozenset[str]:
    last = re.split(r"(?<=[.!?])\s", re.split(r"\n|\bChoices\b", text.strip())[0])[-1]
    return frozenset(words(last).split()) - _FILLERS


# --- lines ------------------------------------------------------------------------------------------------------------

SHORT = 60
"""Characters of a line that may be an answer and nothing else."""
_FORMULA = re.compile(r"\\\[(.{1,400}?)\\\]|\\\((.{1,400}?)\\\)")
_DENIED = re.compile(r"(?:\b(?:not|never|neither|nor)|n['’]t)\s(?:equal to\s)?$")
_POINT = re.compile(r"(?:\b(?:is|are|at|be)\s|(?<!不)[是为])([(\[][^()\[\]]{1,60},[^()\[\]]{1,60}[)\]])[.。\s]*$")
"""Coordinates or an interval without the signs of a formula: "The point is (3, -4)."."""
_FORMULAS = re.compile(r"\$[^$]+\$(?:\s?(?:,|;|,? ?(?:and|or)\b)\s?\$[^$]+\$)+\.?")
"""A line of formulas that are one answer: "$x<1$ or $x>2$"."""
_SEVERAL = ("expression", "list", "set")
_VALUED = ("integer", "float", "expression", "list", "set")


def formula(sentence: str) -> str | None:
    """The last formula of a sentence."""
    dollars = re.split(r"\$\$?", sentence)
    if len(dollars) > 2:  # from the end: one that is missing at the beginning does no harm
        return None if _DENIED.search(dollars[-3]) else dollars[-2]
    found = [formula for formula in _FORMULA.finditer(sentence) if not _DENIED.search(sentence[: formula.start()])]
    if not found and (point := _POINT.search(sentence)):
        return point[1]
    return found[-1][1] or found[-1][2] if found else None


def whole_lines(text: str, gold: Gold) -> list[str]:
    """The last line where all of it is the answer: a short one, or its formula; for words, the only line."""
    text = text.strip()
    last = text.rpartition("\n")[2].strip()
    if gold.kind in _SEVERAL and _FORMULAS.fullmatch(last[-LONGEST:]):
        return [last]
    if gold.kind in _VALUED and (last_formula := formula(last[-LONGEST:])):
        return [last_formula]
    if LISTED.fullmatch(last) and copies_options(text):
        return []  # the last of the options, copied
    alone = gold.kind in ("integer", "float", "choice", "choices", "yesno") or last == text
    return [last] if last and len(last) <= SHORT and alone and not _refuses(last, gold) else []


def _refuses(line: str, gold: Gold) -> bool:
    if gold.kind in ("choice", "choices") and (LISTED.match(line) or choices.letter(line, gold.choices)):
        return False  # "C) None of the others"
    return REFUSAL.search(line) is not None


_WORDS = re.compile(r"(?:\b[^\W\d_]{2,}\b[^\w\\{}]+){4}")


def is_prose(text: str) -> bool:
    """Does a text hold whole sentences?"""
    return _WORDS.search(text) is not None


def readable(text: str, gold: Gold) -> bool:
    """Is a text an answer of the kind that was asked for?"""
    match gold.kind:
        case "choice":
            return choices.letter(text, gold.choices) is not None
        case "choices":
            return choices.letters(text, gold.choices) is not None
        case "integer" | "float":
            return numbers.number(text) is not None or expressions.computable(text) or expressions.counted(text)
        case "yesno":
            return yes_or_no(text) is not None
        case "expression" if (ours := numbers.number(gold.answer)) and ours.units and " " in text:  # "2 h 30 min"
            return numbers.number(text) is not None or "\\" in text
        case _:
            return True
