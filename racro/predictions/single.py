"""One answer of a model and the right one -> its verdict, for programs of your own. Files: `racro grade`."""

from __future__ import annotations

from collections.abc import Sequence

from racro.data.cells import BadGold
from racro.errors import BadInput
from racro.grading import Grade
from racro.grading import grade as verdict_on
from racro.predictions.fields import gold_of
from racro.schema import AnswerKind, FinishReason


def grade(
    response: str,
    answer: str | float,
    *,
    question: str = "",
    kind: AnswerKind | None = None,
    choices: Sequence[str] | None = None,
    precision: int | None = None,
    tolerance: float | None = None,
    unit: str | None = None,
    finish_reason: FinishReason = "stop",
) -> Grade:
    """The verdict on one output, and what was taken for its answer. docs/grading.md has the rules.

    Args:
        response: All that the model wrote; its thinking is skipped.
        answer: The right answer: a value, the letter or text of an option, a word, an expression.
        question: Its text; helps with answers that restate it.
        kind: How answers are compared. None: inferred from answer and choices.
        choices: Texts of the options, in the order of their letters.
        precision: Digits after the decimal point to which numbers are compared.
        tolerance: Largest absolute difference of numbers, in place of `precision`.
        unit: Unit of the answer, if the question asks for one.
        finish_reason: `length` if the output was cut off by a token limit.

    Raises:
        BadInput: A right answer that cannot be graded against; the message says why.
    """
    row = {"answer": answer, "question": question, "answer_type": kind, "choices": list(choices) if choices else None}
    try:
        gold = gold_of(row | {"precision": precision, "tolerance": tolerance, "unit": unit})
    except BadGold as error:
        raise BadInput(f"answer: {error}; give a value that can be compared") from error
    return verdict_on(response, finish_reason, gold)
