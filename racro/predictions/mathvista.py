"""MathVista's result files (results/*/output_*.json) and its authors' rule on the extracted answer.

The rule maps an extraction that is not an option ("N/A", "Cannot be determined") to the option nearest by edit
distance, the first if there are several. This is luck: up to twelve points if a model often declines to answer.
"""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import Any

from racro.benchmarks import mathvista
from racro.data.cells import BadGold
from racro.grading import canary
from racro.predictions.prediction import BadPredictions, Prediction, question, rows, verdict
from racro.schema import Gold, Verdict

FIELDS = ("question", "choices", "precision", "answer", "question_type", "answer_type", "metadata", "response")
_OPTION = re.compile(r"^\(([A-Z])\) (.*)$", re.MULTILINE)


def read(file: Path) -> list[Prediction]:
    """The predictions of a result file. Raises BadPredictions."""
    return [_prediction(file, name, row) for name, row in rows(file, FIELDS)]


def _prediction(file: Path, name: str, row: dict[str, Any]) -> Prediction:
    row = {"unit": None, "extraction": None, **row}
    trouble = None
    try:
        gold = mathvista.gold({**row, "choices": _as_asked(row)})
        trouble = None if canary(gold) else "gold is not correct against itself"
    except BadGold as error:
        gold, trouble = Gold(str(row["answer"]), "text"), str(error)
    except (TypeError, ValueError) as error:
        raise BadPredictions(f"{file}: row {name} is not a row of MathVista ({error})") from error
    labels = [
        *((label, row[label]) for label in mathvista.LABELS),
        *((label, row["metadata"].get(label)) for label in mathvista.METADATA),
    ]
    extraction = None if row["extraction"] is None else str(row["extraction"])
    return Prediction(
        question(str(row.get("pid", name)), row["question"], gold, "mathvista", labels),
        str(row["response"] or ""),
        extraction=extraction,
        is_answer=extraction is not None and is_answer(extraction.strip(), row),
        by_rule=None if extraction is None else by_rule(extraction, row),
        published=verdict(row["true_false"]) if isinstance(row.get("true_false"), bool) else None,
        trouble=trouble,
    )


def _as_asked(row: dict[str, Any]) -> list[str] | None:
    """The options in the order in which the model saw them; in a few rows `query` and `choices` order them differently.

    Letters in the response refer to `query`; the authors' extraction and rule use `choices`.
    """
    choices = row["choices"]
    shown = [text.strip() for _, text in _OPTION.findall(str(row.get("query", "")).rpartition("Choices:")[2])]
    if choices and sorted(shown) == sorted(choice.strip() for choice in choices):
        return [next(choice for choice in choices if choice.strip() == text) for text in shown]
    return list(choices) if choices else None


def by_rule(extraction: str, row: dict[str, Any]) -> Verdict:
    """The authors' verdict: numbers are truncated or rounded, options are found by letter or by similarity."""
    text, choices = extraction.strip(), row["choices"]
    predicted: str | None
    if row["question_type"] == "multi_choice":
        letter = letter_of(text)
        known = string.ascii_uppercase[: len(choices)]
        predicted = choices[known.index(letter)] if letter and letter in known else nearest(letter or text, choices)
    else:
        predicted = as_typed(extraction, row["answer_type"], row["precision"])
    return verdict(predicted == row["answer"])


def letter_of(text: str) -> str | None:
    """The letter in "(A) text" or "A"; None if there is none."""
    if marked := re.search(r"\(([a-zA-Z])\)", text):
        return marked[1].upper()
    return text if len(text) == 1 and text in string.ascii_uppercase else None


def nearest(text: str, choices: list[str]) -> str:
    """The option with the smallest edit distance, the first if there are several."""
    return min(choices, key=lambda choice: distance(text, choice))


def as_typed(text: str, answer_type: str, precision: Any) -> str | None:
    """An extraction as Python prints its number; None if it is not a number."""
    try:
        if answer_type == "integer":
            return str(int(float(text)))
        if answer_type == "float":
            return str(round(float(text), int(precision)))
    except (ValueError, OverflowError, TypeError):
        return None
    return text


def is_answer(text: str, row: dict[str, Any]) -> bool:
    """Is an extraction an answer of the type asked for?"""
    if row["question_type"] == "multi_choice":
        letter = letter_of(text)
        return text in row["choices"] or (
            letter is not None and letter in string.ascii_uppercase[: len(row["choices"])]
        )
    if row["answer_type"] == "list":
        return bool(re.fullmatch(r"\[[^\[\]]+\]", text))
    try:
        return float(text) == float(text)
    except ValueError:
        return False


def distance(one: str, other: str) -> int:
    """Levenshtein distance."""
    above = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (a != b)))
        above = row
    return above[-1]
