"""LogicVista's verdict files (`*-accuracy-results.csv`): raw answer, extracted letters, verdict.

The authors' rule: right if the sets of letters are equal. Also reads files with answers only (`*-answers.json`), if the
authors' `dataset.json` is beside them.
"""

from __future__ import annotations

import ast
import csv
import textwrap
from pathlib import Path
from typing import Any

from racro.benchmarks.logicvista import DATASET
from racro.data.cells import BadGold
from racro.grading import canary
from racro.predictions.prediction import BadPredictions, Prediction, question, rows, verdict
from racro.schema import Gold

COLUMNS = ("id", "reasoning skill", "capability", "true answer", "match?")
EXTRACTED, RAW = " answer extracted", " answer raw"


def read(file: Path) -> list[Prediction]:
    """The predictions of a CSV file, whatever model its columns name, or of a JSON file with answers.

    Raises BadPredictions.
    """
    if file.suffix == ".json":
        return _answers(file, file.with_name("dataset.json"))
    with file.open(encoding="utf-8", newline="") as stream:
        table = csv.DictReader(stream)
        names = table.fieldnames or ()
        model = next((name.removesuffix(RAW) for name in names if name.endswith(RAW)), None)
        if missing := [name for name in (*COLUMNS, f"{model}{EXTRACTED}") if name not in names]:
            there = textwrap.shorten(", ".join(names), 200)
            raise BadPredictions(f"{file}: no column {missing[0]!r} among {there}; is it LogicVista's CSV?")
        return [_prediction(file, row, row[f"{model}{EXTRACTED}"], row[f"{model}{RAW}"]) for row in table]


def _answers(file: Path, dataset: Path) -> list[Prediction]:
    if not dataset.exists():
        raise BadPredictions(f"{file}: holds answers without gold answers; put LogicVista's dataset.json beside it")
    asked = dict(rows(dataset, DATASET.columns))
    found = []
    for name, row in rows(file, ["answer"]):
        if name not in asked:
            raise BadPredictions(f"{file}: {name} is not a question of {dataset}")
        found.append(_answer(name, asked[name], str(row["answer"])))
    return found


def _answer(name: str, row: dict[str, Any], response: str) -> Prediction:
    labels = [("skill", row["skill"]), ("capability", row["broad_capability"])]
    try:
        item = DATASET.read_row(0, row, "test")
    except BadGold as error:
        nothing = question(name, row["question"], Gold("", "choices"), "logicvista", labels)
        return Prediction(nothing, response, trouble=error.reason)
    assert item is not None, "every row of LogicVista is a question"
    draft = item.draft
    trouble = None if canary(draft.gold) else "golden canary"
    return Prediction(question(name, draft.question, draft.gold, "logicvista", item.labels), response, trouble=trouble)


def _prediction(file: Path, row: dict[str, str], extracted: str, raw: str) -> Prediction:
    true, found, skills, capabilities = (
        _list(file, row["id"], cell)
        for cell in (row["true answer"], extracted, row["reasoning skill"], row["capability"])
    )
    gold = Gold(", ".join(letter.upper() for letter in true), "choices")
    return Prediction(
        question(row["id"], "", gold, "logicvista", [("skill", skills), ("capability", capabilities)]),
        raw,
        extraction=", ".join(found),
        is_answer=all(len(letter) == 1 for letter in found),
        by_rule=verdict(set(found) == set(true)),
        published=verdict(row["match?"] == "1"),
        trouble=None if gold.answer and canary(gold) else "empty gold answer",
    )


def _list(file: Path, name: str, cell: str) -> list[str]:
    try:
        value = ast.literal_eval(cell)
    except (ValueError, SyntaxError):
        value = None
    if not isinstance(value, list):
        raise BadPredictions(f"{file}: {name}: {cell!r} is not a list; is it LogicVista's CSV?")
    return [str(item) for item in value]
