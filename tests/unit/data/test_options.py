"""Options in whatever layout are the right ones or none, and reach the models; an answer names one of them or none."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro.benchmarks import own_data
from racro.config import Columns, TableProblems
from racro.data.cells import BadGold
from racro.data.golds import read_gold
from racro.data.options import LETTERS, options_text, read_options, with_options
from racro.data.problems import load
from tests.unit.data.test_problems import jsonl, row

words = st.lists(st.from_regex(r"[a-z]{3,8}( [a-z]{3,8})?", fullmatch=True), min_size=2, max_size=10, unique=True)


def layouts(texts: list[str]) -> dict[str, Any]:
    """The same options in every layout that is read."""
    letters = LETTERS[: len(texts)]
    by_letter = dict(zip(letters, texts, strict=True))
    return {
        "list": texts,
        "array": np.array(texts, dtype=object),
        "tuple": tuple(texts),
        "Python text": repr(texts),
        "JSON": json.dumps(texts),
        "lettered": [f"{a}. {text}" for a, text in by_letter.items()],
        "in brackets": [f"({a}) {text}" for a, text in by_letter.items()],
        "in brackets, small": [f"({a.lower()}) {text}" for a, text in by_letter.items()],
        "mapping": dict(reversed(by_letter.items())),
        "mapping with nulls of other rows": by_letter | dict.fromkeys(LETTERS[len(texts) :]),
        "JSON mapping": json.dumps(by_letter),
        "Python mapping": repr(by_letter),
        "lines": "\n".join(f"{a}. {text}" for a, text in by_letter.items()),
        "one line": "; ".join(f"{a}. {text}" for a, text in by_letter.items()),
        "records": [{"label": a, "text": text} for a, text in by_letter.items()],
        "two lists": {"text": texts, "label": list(letters)},
        "JSON, lettered": json.dumps([f"{a}: {text}" for a, text in by_letter.items()]),
    }


@given(words, st.data())
def test_every_layout_holds_the_same_options_and_letters(texts: list[str], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(texts) - 1))
    letter = LETTERS[index]
    for name, cell in layouts(texts).items():
        assert read_options(cell).texts == tuple(texts), name
        for answer in (letter, f"({letter})", texts[index], f"{letter}. {texts[index]}", f"\\boxed{{{letter}}}"):
            gold = read_gold(answer, None, cell, "What is it?")
            assert (gold.answer, gold.choices) == (letter, tuple(texts)), (name, answer)


@given(words)
def test_options_are_written_once(texts: list[str]) -> None:
    asked = with_options("What is it?", texts)
    assert asked == f"What is it?\n{options_text(texts)}"
    assert with_options(asked, texts) == asked
    more = f"{asked}\nAnswer with the letter."
    assert with_options(more, texts) == more
    if len(texts) > 1:
        with pytest.raises(BadGold, match="question lists other options"):
            with_options(asked, [*texts[1:], texts[0]])


@pytest.mark.parametrize(
    "question",
    ["What is it?", "Is it 1 or 2?", "At point A. there is 12, and at B. 25 of them. And 1, 2?", "Angle A. is 1"],
)
def test_texts_that_only_occur_in_the_question_are_no_list(question: str) -> None:
    assert with_options(question, ["1", "2", "3"]).endswith("\n(A) 1\n(B) 2\n(C) 3")


@pytest.mark.parametrize(
    "listed", ["A. 1\nB. 2", "(A) 1 (B) 2", "A) $1$; B) 2.", "Choices: A: 1 B: 2 Answer!", "\n- A. 1\n- B. 2"]
)
def test_a_question_that_lists_its_options_stays_as_it_is(listed: str) -> None:
    assert with_options(f"How many? {listed}", ["1", "2"]) == f"How many? {listed}"


def test_options_that_are_their_own_letters_stand_in_the_image() -> None:
    assert with_options("Which?", ["A", "B", "C"]) == "Which?"
    assert read_gold("C", None, ["A", "B", "C"], "Which?").answer == "C"


BAD: dict[str, list[Any]] = {
    "unreadable choices": [
        "x or y",
        "7",
        "['a' 'b'\n 'c']",
        "[1 2 3]",
        '{"A": 1, "B": 2, "B": 3}',
        "{'A': 1, 'B': 2, 'B': 3}",
        "{'a', 'b'}",
        "A. 1 B. 2 D. 4",
        5,
        float("nan"),
        b"A. 1 B. 2",
        [["x"], ["y"]],
        "[" * 100_000,
    ],
    "empty option": [["x", None], ["x", ""], '["x", null]', "['x', None]", '["x", NaN]', [1.0, float("nan")], {"A": 1}],
    "fewer than two options": [["x"], {"A": "x"}, "['x']", {"A": "x", "B": None}],
    "more options than letters": [list("abcdefghijk")],
    "options are not lettered A, B, ...": [
        {"A": "x", "C": "y"},
        {"1": "x", "2": "y"},
        ["B. x", "A. y"],
        ["A. x", "C. y"],
        ["A. x", "y"],
        ["x", "(b) y", "z"],
        {"label": ["1", "2"], "text": ["x", "y"]},
        {"A": "x", "text": "y"},
    ],
    "broken characters": [["x", "\ud83d"], ["x", "y\0"]],
}


@pytest.mark.parametrize(("reason", "cell"), [(reason, cell) for reason, cells in BAD.items() for cell in cells])
def test_what_is_not_certain_is_refused(reason: str, cell: Any) -> None:
    if cell == {"A": 1}:
        reason = "fewer than two options"
    with pytest.raises(BadGold) as caught:
        read_options(cell)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("answer", "choices"),
    [
        (1, ["2", "1", "3"]),  # the text of B; the index of A, or of B
        (2, ["1", "2", "3"]),
        (0, ["0", "1"][::-1]),
        ("1", ["x", "y"]),
        (1, ["x", "y"]),
        ("B", ["B", "A"]),
        ("C", "['B', 'C', 'D']"),
        ("C", ["x", "y"]),
        ("x", ["x", "x"]),
        (True, ["x", "y"]),
    ],
)
def test_an_answer_that_could_mean_two_options_names_none(answer: Any, choices: Any) -> None:
    with pytest.raises(BadGold, match="choice answer names no option"):
        read_gold(answer, None, choices, "")


@pytest.mark.parametrize(
    ("answer", "choices", "letter"),
    [
        (5, ["3", "5"], "B"),
        (2, [1, 2, 3], "B"),
        ("2", ["1", "2", "3"], "B"),
        (30.0, [15, 30.0], "B"),
        (2, ["1", "2"], "B"),
    ],
)
def test_a_number_that_can_only_be_a_text_names_it(answer: Any, choices: Any, letter: str) -> None:
    assert read_gold(answer, None, choices, "").answer == letter


def test_with_options_an_answer_is_a_choice_whatever_its_kind() -> None:
    assert read_gold("5", "integer", ["3", "5"], "")[:2] == ("B", "choice")
    with pytest.raises(BadGold, match="names no option"):
        read_gold("7", "integer", ["3", "5"], "")


cells = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats()
    | st.text(max_size=12)
    | st.binary(max_size=4)
    | st.sampled_from(["A. 1", "(B) 2", "A", "B", "[1, 2]", '["x", null]', "A. 1\nB. 2", "\ud800", "['a' 'b']"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("ABab1") | st.text(max_size=3), inner),
    max_leaves=8,
)


@given(cells, cells, st.text(max_size=20))
def test_any_cells_give_a_gold_or_a_reason(answer: Any, choices: Any, question: str) -> None:
    try:
        gold = read_gold(answer, None, choices, question)
    except BadGold as error:
        assert error.reason and "\n" not in error.row("x", 0).detail
        return
    if gold.kind == "choice" and gold.choices:
        assert gold.answer in LETTERS[: len(gold.choices)]
        assert all(gold.choices) and len(gold.choices) >= 2
        with contextlib.suppress(BadGold):
            asked = with_options(question, gold.choices)
            assert asked == question or asked == f"{question}\n{options_text(gold.choices)}"


def test_options_reach_the_models_in_training_and_in_own_data(tmp_path: Path) -> None:
    rows = [
        row(0, answer="dog", choices=["cat", "dog"]),
        row(1, answer="A", choices=["cat", "dog"], question="Which? A. cat B. dog"),
        row(2, answer="7", choices=None),
    ]
    source, columns = jsonl(tmp_path, rows), Columns(choices="choices")
    config = TableProblems(source=source, columns=columns, heldout_share=1e-6)
    trained = {problem.uid: problem for problem in load(config, str(tmp_path), 0).problems}
    asked = own_data(columns).read(source, str(tmp_path)).questions
    for found in ([trained[str(i)] for i in range(3)], asked):
        assert [problem.question.removeprefix("<image>") for problem in found] == [
            "How many, case 0?\n(A) cat\n(B) dog",
            "Which? A. cat B. dog",
            "How many, case 2?",
        ]
        assert [problem.answer for problem in found] == ["B", "A", "7"]
