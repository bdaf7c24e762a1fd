"""A model's output + the gold answer -> Grade. Typed by answer kind; one function for training and evaluation.

Not a judge of captions (`racro.embedded.oracle`) and not the reward. Called by `racro.rollouts.reasoner`,
`racro.answering.pipeline` and `racro.predictions`. Everything but algebra is linear in a bounded text and runs here, in
microseconds; algebra runs in processes with a deadline (`racro.grading.symbolic`), which start when they are first
needed. Any thread may call.
"""

from __future__ import annotations

from typing import NamedTuple

from racro.grading.asking import one_count
from racro.grading.choices import letter, letters
from racro.grading.expressions import same_expression, same_list, same_quantity, same_set
from racro.grading.extraction import Tagged, all_boxed, bare, boxed, final_part, stated, tagged
from racro.grading.normalise import normalised
from racro.grading.plain import unstyled
from racro.grading.prose import conclusion, is_prose, readable, whole_lines
from racro.grading.restating import same_answer
from racro.grading.solutions import is_empty, same_solutions
from racro.grading.symbolic import GraderFailed
from racro.grading.target import target
from racro.grading.words import same_text, yes_or_no
from racro.schema import FinishReason, Gold, Verdict

SEVERAL = ("choices", "expression", "list", "set")
"""Kinds of which an answer may stand in several boxes."""
SOLUTIONS = ("text", "expression", "list", "set")
"""Kinds that "no solution" may be."""
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
    text, gold = final_part(response), target(gold)
    mark = tagged(text)
    if mark is not None and _box(text[mark.end :], gold) is None and (found := _in_tags(mark, gold)):
        return found
    if (box := _box(text, gold)) is not None:
        return box
    return _in_text(text, gold)


def _closed(response: str, gold: Gold) -> str | None:
    """The answer of an output that was cut off."""
    text, gold = final_part(response), target(gold)
    mark = tagged(text)
    if mark is not None and mark.closed and _box(text[mark.end :], gold) is None:
        return _in_tags(mark, gold)
    return _box(text, gold)


def _in_tags(mark: Tagged, gold: Gold) -> str | None:
    """The answer in what stands between answer tags: all of it, unless that is prose."""
    content = mark.content
    if (box := _box(content, gold)) is not None:
        return box
    if said := next((statement for statement in stated(content) if readable(statement, gold)), None):
        return said
    if not is_prose(content) and readable(content, gold):
        return content
    return _in_text(content, gold) or (content if mark.closed and len(content) <= LONGEST_ANSWER else None)


def _in_text(text: str, gold: Gold) -> str | None:
    said = [*stated(text), *bare(text)]
    fitting = next((statement for statement in (*said, *whole_lines(text, gold)) if readable(statement, gold)), None)
    return fitting or conclusion(text, gold) or next(iter(said), None)


def _box(text: str, gold: Gold) -> str | None:
    return (all_boxed if gold.kind in SEVERAL else boxed)(text)


def equal(found: str, gold: Gold) -> bool:
    """Do a found answer and the gold answer say the same? Raises GraderFailed."""
    found, gold = unstyled(normalised(found)).rstrip("。 "), target(gold)
    if len(found) > LONGEST_ANSWER:
        return False
    if gold.kind in SOLUTIONS and is_empty(gold.answer) and is_empty(found):
        return True
    match gold.kind:
        case "integer" | "float":
            return same_quantity(one_count(found, gold.question), gold)
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
