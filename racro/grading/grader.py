"""A model's output + the gold answer -> Grade. Typed by answer kind; one function for training and evaluation.

Not a judge of captions (`racro.embedded.oracle`) and not the reward. Called by `racro.rewards.answer`,
`racro.answering.pipeline` and `racro.predictions`. Everything but algebra is linear in a bounded text and runs here, in
microseconds; algebra runs in processes with a deadline (`racro.grading.symbolic`), which start when they are first
needed. Any thread may call.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from racro.grading.asking import one_count
from racro.grading.capitals import with_capitals
from racro.grading.choices import letter, letters
from racro.grading.expressions import same_expression, same_quantity
from racro.grading.extraction import Tagged, all_boxed, bare, boxed, final_part, stated, tagged
from racro.grading.figures import same_figure
from racro.grading.moments import same_moment
from racro.grading.normalise import normalised
from racro.grading.plain import unstyled
from racro.grading.prose import conclusion, is_prose, options_in_lines, readable, whole_lines
from racro.grading.ranges import same_range
from racro.grading.restating import same_answer
from racro.grading.scales import without_asked
from racro.grading.several import same_list, same_set
from racro.grading.solutions import is_empty, same_solutions
from racro.grading.symbolic import GraderFailed
from racro.grading.target import target
from racro.grading.words import same_text, yes_or_no
from racro.schema import FinishReason, Gold, Verdict

SEVERAL = ("choices", "expression", "list", "set")
"""Kinds of which an answer may stand in several boxes."""
SOLUTIONS = ("text", "expression", "list", "set")
"""Kinds that "no solution" may be."""
NAMED = ("text", "expression")
"""Kinds that the name of a figure or a range may be."""
DATED = ("text", "integer", "float")
"""Kinds of which a date or a time of day may be: "March 3", "7 pm"."""
LONGEST_ANSWER = 1_000
"""An answer of more characters is none of the kinds."""


class Grade(NamedTuple):
    """What became of an output, and what was taken for its answer."""

    verdict: Verdict
    extracted: str | None
    """As it was written, in plain characters; None where nothing was found."""


def grade(response: str, finish_reason: FinishReason, gold: Gold) -> Grade:
    """The verdict on an output. An explicit "unknown" is an answer, and wrong.

    Failed: the engine ran out of time, or the grader did. Truncated: cut off by the token limit before an answer.
    """
    if finish_reason == "deadline":
        return Grade(Verdict.FAILED, None)
    cut_off, found = finish_reason == "length", None
    try:
        # "The answer is 1" may be the beginning of 12; only a closed box or tag survives a cut.
        found = _closed(response, gold) if cut_off else find(response, gold)
        if found is None:
            return Grade(Verdict.TRUNCATED if cut_off else Verdict.UNPARSED, None)
        return Grade(Verdict.CORRECT if equal(found, gold) else Verdict.WRONG, found)
    except GraderFailed:
        return Grade(Verdict.FAILED, found)


def find(response: str, gold: Gold) -> str | None:
    """The answer in an output: of several places the first that holds an answer of the kind asked for.

    Raises GraderFailed.
    """
    gold = target(gold)
    text = _as_asked(final_part(response), gold)
    mark = tagged(text)
    if mark is not None and _box(text[mark.end :], gold) is None and (found := _in_tags(mark, gold)):
        return found
    if (box := _box(text, gold)) is not None:
        return box
    return _in_text(text, gold)


def _as_asked(text: str, gold: Gold) -> str:
    """With the capitals of the question's letters; where it asks for a ratio as a number, "3:2" is 3/2."""
    text = with_capitals(text, gold)
    if ":" in text and gold.kind in ("integer", "float") and "ratio" in gold.question.lower():
        return _RATIO.sub(r"\1/\2", text)
    return text


_RATIO = re.compile(r"(?<![\d:.])(\d{1,9}(?:\.\d{1,9})?)\s?:\s?(\d{1,9}(?:\.\d{1,9})?)(?![\d:]|\.\d)")


def _closed(response: str, gold: Gold) -> str | None:
    """The answer of an output that was cut off."""
    gold = target(gold)
    text = _as_asked(final_part(response), gold)
    mark = tagged(text)
    if mark is not None and mark.closed and _box(text[mark.end :], gold) is None:
        return _in_tags(mark, gold)
    return _box(text, gold)


def _in_tags(mark: Tagged, gold: Gold) -> str | None:
    """The answer in what stands between answer tags: all of it, unless that is prose."""
    content = mark.content
    if (box := _box(content, gold)) is not None:
        return box
    if said := next((statement for statement in _stated(content, gold) if readable(statement, gold)), None):
        return said
    if not is_prose(content) and readable(content, gold):
        return content
    return _in_text(content, gold) or (content if mark.closed and len(content) <= LONGEST_ANSWER else None)


def _in_text(text: str, gold: Gold) -> str | None:
    if gold.kind == "choices":
        text = _BROKEN.sub(r"\1 ", text)
        if lines := options_in_lines(text, gold.choices):
            return lines
    said = [*_stated(text, gold), *bare(text)]
    fitting = next((statement for statement in (*said, *whole_lines(text, gold)) if readable(statement, gold)), None)
    return fitting or conclusion(text, gold) or next(iter(said), None)


def _stated(text: str, gold: Gold) -> list[str]:
    """What is said to be the answer; where several are asked for, with lists that semicolons part."""
    if gold.kind not in SEVERAL:
        return stated(text)
    if gold.kind == "choices":
        return stated(text, lambda said: readable(said, gold))
    return stated(text, lambda said: not _WORD_OF_PROSE.search(said))


_BROKEN = re.compile(r"([;,&/])[ \t]*\n\s*(?=[*(]{0,3}(?:\\text\{)?[A-Z]\b)")
"""Where a list goes on in the next line."""


_WORD_OF_PROSE = re.compile(r"(?<![\\A-Za-z])(?!and\b)[A-Za-z]{3,}")


def _box(text: str, gold: Gold) -> str | None:
    """What stands in the last boxes; of a sentence that is no answer of the kind what it says."""
    box = (all_boxed if gold.kind in SEVERAL else boxed)(text)
    if box is None or len(_WORD.findall(box)) < WORDS or readable(box, gold):
        return box
    if said := next((statement for statement in stated(box) if readable(statement, gold)), None):
        return said
    plain = gold.kind in ("integer", "float") and not _HEDGED.search(box)
    return (_in_text(box, gold) if plain else None) or box


_HEDGED = re.compile(
    r"\b(?:not|no|never|or)\b|n['’]t\b|\b(?:than|least|most|over|under|between|above|below)\s(?=\d)", re.IGNORECASE
)
WORDS = 2
"""Words from which on a box may hold a sentence."""
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")


def equal(found: str, gold: Gold) -> bool:
    """Do a found answer and the gold answer say the same? Raises GraderFailed."""
    gold = target(gold)
    found = _as_asked(unstyled(normalised(found)).rstrip("。 "), gold)
    if len(found) > LONGEST_ANSWER:
        return False
    if found == gold.answer and gold.kind in DATED:
        return True
    if gold.kind in SOLUTIONS and is_empty(gold.answer) and is_empty(found):
        return True
    if gold.kind in NAMED and (same := same_figure(found, gold)) is not None:
        return same
    if gold.kind in NAMED and (same := same_range(found, gold.answer)) is not None:
        return same
    if gold.kind in DATED and (same := same_moment(found, gold.answer)) is not None:
        return same
    match gold.kind:
        case "integer" | "float":
            found = one_count(found, gold.question)
            asked = without_asked(found, gold.question)
            return same_quantity(found, gold) or (asked != found and same_quantity(asked, gold))
        case "choice":
            named = letter(gold.answer, gold.choices)
            return same_text(found, gold.answer) if named is None else letter(found, gold.choices) == named
        case "choices":
            wanted = letters(gold.answer, gold.choices)
            return same_text(found, gold.answer) if wanted is None else letters(found, gold.choices) == wanted
        case "yesno":
            said = yes_or_no(gold.answer)
            return same_text(found, gold.answer) if said is None else yes_or_no(found) == said
        case "text":
            return same_answer(found, gold)
        case "expression":
            return same_expression(found, gold) or same_solutions(found, gold.answer)
        case "list":
            return same_list(found, gold)
        case "set":
            return same_set(found, gold) or same_solutions(found, gold.answer)


def canary(gold: Gold) -> bool:
    """Is the gold answer, boxed, correct against itself? A row where it is not cannot be graded and is dropped."""
    return grade(f"\\boxed{{{gold.answer}}}", "stop", gold).verdict is Verdict.CORRECT
