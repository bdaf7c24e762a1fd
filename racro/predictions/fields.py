"""Predictions in this project's fields, as JSON or JSON lines.

`question`, `answer` and `response`; optional: `question_type` (multi_choice, free_form), `answer_type` (an answer
kind), `choices`, `precision`, `tolerance`, `unit`, `finish_reason`, `pid` or `uid`, `extraction`, a verdict
`true_false`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast, get_args

from racro.benchmarks.benchmark import lettered
from racro.data.cells import BadGold
from racro.data.golds import read_gold
from racro.data.options import LETTERS
from racro.grading import GraderFailed, canary, equal
from racro.grading.prose import readable
from racro.predictions.prediction import BadPredictions, Prediction, question, verdict
from racro.predictions.prediction import rows as table
from racro.schema import AnswerKind, FinishReason, Gold, Verdict

LABELS = ("question_type", "answer_type")


def read(file: Path) -> list[Prediction]:
    """The predictions of a file. Raises BadPredictions."""
    return [_prediction(file, name, row) for name, row in table(file, ("question", "answer", "response"))]


def gold_of(row: dict[str, Any]) -> Gold:
    """The gold answer of a row. Raises BadGold."""
    choices = row.get("choices") or None
    kind = "choice" if row.get("question_type") == "multi_choice" else row.get("answer_type")
    if kind == "text" and choices:
        kind = "choice"
    if kind == "choice" and isinstance(choices, list) and row["answer"] in choices:  # by its text, as in MathVista
        return lettered(LETTERS[choices.index(row["answer"])], choices)._replace(question=str(row["question"]))
    if kind in get_args(AnswerKind) and kind not in ("choice", "integer", "float"):
        gold = Gold(str(row["answer"]).strip(), cast(AnswerKind, kind), tuple(map(str, choices or ())))
    else:
        gold = read_gold(row["answer"], kind or None, choices, str(row["question"]))
    precision, tolerance = row.get("precision"), row.get("tolerance")
    return gold._replace(
        precision=None if precision is None else int(precision),
        tolerance=None if tolerance is None else float(tolerance),
        unit=row.get("unit") or None,
        question=str(row["question"]),
    )


def _prediction(file: Path, name: str, row: dict[str, Any]) -> Prediction:
    finish_reason = row.get("finish_reason") or "stop"
    if finish_reason not in get_args(FinishReason):
        known = ", ".join(get_args(FinishReason))
        raise BadPredictions(f"{file}: row {name}: finish_reason {finish_reason!r} is not one of: {known}")
    trouble = None
    try:
        gold = gold_of(row)
        trouble = None if canary(gold) else "gold is not correct against itself"
    except BadGold as error:
        gold, trouble = Gold(str(row["answer"]), "text"), str(error)
    except (TypeError, ValueError) as error:
        raise BadPredictions(f"{file}: row {name}: {error}; correct precision, tolerance or choices") from error
    extraction = None if row.get("extraction") is None else str(row["extraction"])
    labels = [(label, row.get(label)) for label in LABELS]
    return Prediction(
        question(str(row.get("pid") or row.get("uid") or name), str(row["question"]), gold, "", labels),
        str(row["response"] or ""),
        cast(FinishReason, finish_reason),
        extraction,
        is_answer=extraction is not None and not trouble and _is_answer(extraction, gold),
        by_rule=None if extraction is None or trouble else _by_our_rules(extraction, gold),
        published=verdict(row["true_false"]) if isinstance(row.get("true_false"), bool) else None,
        trouble=trouble,
    )


def _is_answer(extraction: str, gold: Gold) -> bool:
    try:
        return readable(extraction, gold)
    except GraderFailed:
        return False


def _by_our_rules(extraction: str, gold: Gold) -> Verdict:
    try:
        return verdict(equal(extraction, gold))
    except GraderFailed:
        return Verdict.FAILED
