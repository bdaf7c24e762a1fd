"""LogicVista's verdict files (`*-accuracy-results.csv`): raw answer, extracted letters, verdict; right: equal sets."""

from __future__ import annotations

import ast
import csv
from pathlib import Path

from racro.grading import canary
from racro.predictions.prediction import BadPredictions, Prediction, question, verdict
from racro.schema import Gold

COLUMNS = ("id", "reasoning skill", "capability", "true answer", "match?")
EXTRACTED, RAW = " answer extracted", " answer raw"


def read(file: Path) -> list[Prediction]:
    """The predictions of a CSV file, whatever the model's name in its columns. Raises BadPredictions."""
    with file.open(encoding="utf-8", newline="") as stream:
        table = csv.DictReader(stream)
        names = table.fieldnames or ()
        model = next((name.removesuffix(RAW) for name in names if name.endswith(RAW)), None)
        if missing := [name for name in (*COLUMNS, f"{model}{EXTRACTED}") if name not in names]:
            raise BadPredictions(f"{file}: no column {missing[0]!r} among {', '.join(names)}; is it LogicVista's CSV?")
        return [_prediction(file, row, row[f"{model}{EXTRACTED}"], row[f"{model}{RAW}"]) for row in table]


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
        raise BadPredictions(f"{file}: {name}: {cell!r} is no list; is it LogicVista's CSV?")
    return [str(item) for item in value]
