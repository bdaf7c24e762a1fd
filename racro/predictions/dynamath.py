"""DynaMath's verdict files: a row per question, a column per variant, "correct" or "fail" in each."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from racro.predictions.prediction import BadPredictions, Prediction, question, verdict
from racro.schema import Gold

VARIANT = "Variant "
QUESTION = re.compile(r"Q\d+")
"""Rows of questions; below them come rows of sums."""


def read(file: Path) -> list[Prediction]:
    """One prediction per variant of each question, with only the published verdict. Raises BadPredictions."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        table = csv.DictReader(stream)
        names = table.fieldnames or ()
        variants = [name for name in names if name.startswith(VARIANT)]
        if "Question ID" not in names or not variants:
            raise BadPredictions(f"{file}: no columns 'Question ID' and 'Variant 1'; is it DynaMath's CSV?")
        return [
            _prediction(file, row, variant)
            for row in table
            if QUESTION.fullmatch(row["Question ID"].strip())
            for variant in variants
        ]


def _prediction(file: Path, row: dict[str, str], variant: str) -> Prediction:
    said, name, part = row[variant].strip().lower(), row["Question ID"].strip(), variant.removeprefix(VARIANT)
    if said not in ("correct", "fail"):
        raise BadPredictions(f"{file}: {name}, {variant}: {said!r} is neither 'correct' nor 'fail'")
    labels = [("subject", row.get("Topic")), ("level", row.get("Difficulty Level"))]
    asked = question(f"{name}/{part}", "", Gold("", "text"), "dynamath", labels, family=name, part=part)
    return Prediction(asked, None, published=verdict(said == "correct"), trouble="the file has verdicts only")
