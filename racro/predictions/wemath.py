"""We-Math's result files: rows of the dataset with a field `response`, and its authors' rule on the response."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from racro.benchmarks import wemath
from racro.data.cells import BadGold
from racro.grading import canary
from racro.predictions.prediction import BadPredictions, Prediction, question, rows, verdict

FIELDS = ("ID", "key", "question", "option", "answer", "knowledge concept", "response")


def read(file: Path) -> list[Prediction]:
    """The predictions of a result file. Raises BadPredictions."""
    return [_prediction(file, name, row) for name, row in rows(file, FIELDS)]


def _prediction(file: Path, name: str, row: dict[str, Any]) -> Prediction:
    try:
        item = wemath.TESTMINI.read_row(0, {"image_path": None, **row}, "testmini")
    except (BadGold, TypeError, ValueError) as error:
        raise BadPredictions(f"{file}: row {name} is not a row of We-Math ({error})") from error
    assert item is not None
    draft, said = item.draft, letter(str(row["response"] or ""))
    return Prediction(
        question(draft.uid, draft.question, draft.gold, "wemath", item.labels, item.family, item.part),
        str(row["response"] or ""),
        extraction=said,
        is_answer=said is not None,
        by_rule=verdict(said == row["answer"]),
        trouble=None if canary(draft.gold) else "gold is not correct against itself",
    )


def letter(response: str) -> str | None:
    """The answer by the authors' rule: the first letter after the last "Answer", ignoring "<", ">", ":" and "."."""
    said = re.sub(r"[><:.]", "", response.rpartition("Answer")[2].strip()).strip()
    return said[0] if said and said[0] in "ABCDEFGH" else None
