"""Outputs as models write them, right and wrong, against gold answers: `verdicts.jsonl`, a gold answer a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from racro.data.golds import read_gold
from racro.grading import grade
from racro.schema import Gold, Verdict

ROWS = [json.loads(line) for line in Path(__file__).with_name("verdicts.jsonl").read_text("utf-8").splitlines()]
ASKED = ("tolerance", "precision", "unit")


def gold_of(row: dict[str, Any]) -> Gold:
    """The gold answer of a line; its kind is inferred where none is given."""
    choices, question = row.get("choices"), row.get("question", "")
    if "kind" in row:
        gold = Gold(row["answer"], row["kind"], tuple(choices or ()))
    else:
        gold = read_gold(row["answer"], None, choices, question)
    return gold._replace(question=question, **{name: row[name] for name in ASKED if name in row})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['answer'][:20]} {row.get('kind', '')}")
def test_the_verdict_on_an_output(row: dict[str, Any]) -> None:
    gold = gold_of(row)
    assert [text for text in row.get("right", ()) if grade(text, "stop", gold).verdict is not Verdict.CORRECT] == []
    assert [text for text in row.get("wrong", ()) if grade(text, "stop", gold).verdict is Verdict.CORRECT] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['answer'][:20]} {row.get('kind', '')}")
def test_every_gold_is_correct_against_itself(row: dict[str, Any]) -> None:
    gold = gold_of(row)
    assert grade(f"\\boxed{{{gold.answer}}}", "stop", gold).verdict is Verdict.CORRECT
    assert grade(f"<answer>{gold.answer}</answer>", "stop", gold).verdict is Verdict.CORRECT
