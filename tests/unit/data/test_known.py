"""Facts and questions come in common forms; what cannot be read costs its row, an empty cell costs nothing."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from racro.data.cells import Unusable
from racro.data.known import read_facts, read_mcq
from racro.schema import ChoiceQuestion, ImageFact

COLOUR = ChoiceQuestion(question="Which colour?", options=("red", "blue"), answer=1)


@pytest.mark.parametrize(
    "cell",
    [
        ["A bar.", {"text": "It is red.", "weight": 3}],
        [{"fact": "A bar.", "weight": None}, {"fact": "It is red.", "weight": 3.0}],
        json.dumps(["A bar.", {"text": "It is red.", "weight": 3}]),
        "['A bar.', {'text': 'It is red.', 'weight': 3}]",
        np.array(["A bar.", {"text": "It is red.", "weight": 3}], dtype=object),
    ],
)
def test_facts_in_common_forms(cell: Any) -> None:
    assert read_facts(cell) == (ImageFact(text="A bar."), ImageFact(text="It is red.", weight=3))


@pytest.mark.parametrize(
    "item",
    [
        {"question": "Which colour?", "options": ["red", "blue"], "answer": "B"},
        {"question": "Which colour?", "options": ["red", "blue"], "answer": "blue"},
        {"question": "Which colour?", "choices": {"A": "red", "B": "blue"}, "answer": "(b)"},
        {"question": "Which colour?", "options": "A. red\nB. blue", "answer": "B."},
    ],
)
def test_questions_in_common_forms(item: Any) -> None:
    assert read_mcq([item]) == (COLOUR,) == read_mcq(json.dumps([item]))


@pytest.mark.parametrize("cell", [None, "", [], "[]"])
def test_an_empty_cell_means_that_nothing_is_known(cell: Any) -> None:
    assert read_facts(cell) == () == read_mcq(cell)


@pytest.mark.parametrize(
    "cell",
    ["not a list", 3, [3], [""], ["\0"], [{"text": "a", "weight": 0}], [{"text": "a", "weight": "x"}], {"text": "a"}],
)
def test_facts_that_cannot_be_read(cell: Any) -> None:
    with pytest.raises(Unusable):
        read_facts(cell)


@pytest.mark.parametrize(
    "change",
    [{"answer": "C"}, {"answer": None}, {"answer": "green"}, {"options": ["red"]}, {"options": None}, {"question": 3}],
)
def test_questions_that_cannot_be_read(change: dict[str, Any]) -> None:
    with pytest.raises(Unusable):
        read_mcq([{"question": "Which colour?", "options": ["red", "blue"], "answer": "B", **change}])
