"""A judge against labels: accuracy and kappa, and how a file with labels is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from racro.rewards.agreement import BadLabels, agreement, read
from racro.rewards.protocol import Value

UNIT = st.floats(0, 1)


@given(st.lists(st.tuples(st.none() | UNIT, UNIT), max_size=60), UNIT)
def test_accuracy_and_kappa_are_those_of_the_table_of_counts(
    pairs: list[tuple[float | None, float]], at: float
) -> None:
    """Against the textbook form on the matrix of counts: kappa = (p_o - p_e) / (1 - p_e)."""
    found = agreement("facts", [Value(v, "why") for v, _ in pairs], [label for _, label in pairs], at)
    table = np.zeros((2, 2))
    for value, label in pairs:
        if value is not None:
            table[int(value >= at), int(label >= at)] += 1
    n = int(table.sum())
    assert (found.n, found.unscored) == (n, len(pairs) - n)
    assert found.faults == ({"why": len(pairs) - n} if len(pairs) > n else {})
    if not n:
        assert found.accuracy is None and found.kappa is None and found.kappa_interval is None
        return
    observed = np.trace(table) / n
    expected = (table.sum(0) / n) @ (table.sum(1) / n)
    assert found.accuracy is not None and found.accuracy.value == pytest.approx(observed)
    if expected > 1 - 1e-9:
        assert found.kappa is None
        return
    assert found.kappa == pytest.approx((observed - expected) / (1 - expected))
    assert found.kappa_interval is not None
    low, high = found.kappa_interval
    assert -1 <= low <= found.kappa + 1e-9 and found.kappa - 1e-9 <= high <= 1


def write(file: Path, rows: list[Any]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_row_may_have_all_that_any_reward_needs(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    full = {
        "uid": "b",
        "caption": "A bar.",
        "label": True,
        "question": "How high?",
        "answer": 3,
        "image": "a.png",
        "facts": ["It is red."],
        "mcq": [{"question": "Which?", "options": ["x", "y"], "answer": "A"}],
    }
    found = read(write(tmp_path / "l.jsonl", [full, {**full, "uid": "a"}, {**full, "caption": "Two."}]), tmp_path / "f")
    assert [(one.case.problem.uid, one.case.rollout.caption, one.label) for one in found] == [
        ("a", "A bar.", 1.0),
        ("b", "A bar.", 1.0),
        ("b", "Two.", 1.0),
    ]
    problem = found[0].case.problem
    assert (problem.question, problem.answer, problem.facts[0].text) == ("How high?", "3", "It is red.")
    assert (problem.mcq[0].options, Path(problem.images[0].path)) == (("x", "y"), tmp_path / "a.png")


def test_images_in_the_file_are_written_where_they_can_be_opened(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    import base64

    data = "data:image/png;base64," + base64.b64encode((tmp_path / "a.png").read_bytes()).decode()
    row = {"caption": "A bar.", "label": 0.5, "image": data}
    [found] = read(write(tmp_path / "l.jsonl", [row]), tmp_path / "f")
    assert (tmp_path / "f" / found.case.problem.images[0].path).read_bytes() == (tmp_path / "a.png").read_bytes()


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([{"caption": "x"}], "no column label"),
        ([{"label": 1}], "no column caption"),
        (
            [{"caption": "x", "label": 1}, {"caption": "x", "label": 2}],
            "row 1: unreadable label: 2 is no number from 0 to 1",
        ),
        ([{"caption": "x", "label": "yes"}], "row 0: unreadable label"),
        ([{"caption": "x", "label": 1, "facts": "["}], "row 0: unreadable facts"),
        ([{"caption": 3, "label": 1}], "row 0: caption is no text"),
    ],
)
def test_what_cannot_be_used_is_one_line_with_its_row(tmp_path: Path, rows: list[Any], line: str) -> None:
    with pytest.raises(BadLabels) as caught:
        read(write(tmp_path / "l.jsonl", rows), tmp_path)
    assert line in str(caught.value) and "\n" not in str(caught.value)
