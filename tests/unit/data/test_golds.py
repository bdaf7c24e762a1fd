"""Gold answers come out of their boxes, get a kind, and name an option by its letter; what is broken is refused."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro.data.golds import BadGold, options_in, read_gold, unbox
from racro.schema import Gold

balanced = st.recursive(
    st.text(alphabet="ab1 ,.\\{}", max_size=4).map(
        lambda t: t.replace("\\", "").replace("{", "\\{").replace("}", "\\}")
    ),
    lambda inner: st.lists(inner, max_size=3).map(lambda parts: "{" + "".join(parts) + "}"),
    max_leaves=5,
)


@given(balanced, st.integers(0, 3))
def test_any_number_of_boxes_comes_off(content: str, boxes: int) -> None:
    assert unbox("\\boxed{" * boxes + content + "}" * boxes) == content.strip()


@given(balanced, st.sampled_from(["{", "}"]))
def test_one_brace_too_many_is_broken(content: str, brace: str) -> None:
    with pytest.raises(BadGold, match="broken gold"):
        unbox("\\boxed{" + content + brace + "}")


@given(st.text(max_size=30))
def test_unbox_ends_on_any_text(text: str) -> None:
    with contextlib.suppress(BadGold):
        assert "\\boxed" not in unbox(text)


@pytest.mark.parametrize(
    ("answer", "choices", "question", "expected"),
    [
        ("\\boxed{12}", None, "", ("12", "integer")),
        ("1,234", None, "", ("1234", "integer")),
        ("−7", None, "", ("-7", "integer")),
        (5, None, "", ("5", "integer")),
        ("3.50", None, "", ("3.50", "float")),
        (3.0, None, "", ("3.0", "float")),
        ("1e-3", None, "", ("1e-3", "float")),
        ("1,5", None, "", ("1,5", "set")),
        ("x = 1, x = 2", None, "", ("x = 1, x = 2", "set")),
        ("\\{1, 2\\}", None, "", ("\\{1, 2\\}", "set")),
        ("(1, 2, 3)", None, "", ("(1, 2, 3)", "list")),
        ("[0, 1)", None, "", ("[0, 1)", "expression")),
        ("x = 5", None, "", ("x = 5", "expression")),
        ("2\\sqrt{3}", None, "", ("2\\sqrt{3}", "expression")),
        ("3/4", None, "", ("3/4", "expression")),
        ("50%", None, "", ("50%", "float")),
        ("1.3 cm", None, "", ("1.3 cm", "float")),
        ("120°", None, "", ("120°", "integer")),
        ("No", None, "", ("No", "yesno")),
        ("well-known", None, "", ("well-known", "text")),
        ("11/02/2006", None, "", ("11/02/2006", "text")),
        ("salt, pepper and oil", None, "", ("salt, pepper and oil", "text")),
        ("A, C", ["w", "x", "y"], "", ("A, C", "choices")),
        ("C and A", ["w", "x", "y"], "", ("A, C", "choices")),
        ("red", None, "", ("red", "text")),
        ("\\boxed{\\frac{1}{2}}", None, "", ("\\frac{1}{2}", "expression")),
        ("B", ["x", "y"], "", ("B", "choice")),
        ("(b)", ["x", "y"], "", ("B", "choice")),
        ("Y", ["x", " y "], "", ("B", "choice")),
        ("B. y", ["x", "y"], "", ("B", "choice")),
        ("2", ["1", "2"], "", ("B", "choice")),
        ("A", "['x', 'y']", "", ("A", "choice")),
        ("B", "A. B; B. A", "", ("B", "choice")),
        ("\\boxed{C}", None, "Pick.\nA. 1\nB. 2\nC. 3", ("C", "choice")),
        ("D", None, "Which figure continues the row?", ("D", "choice")),
    ],
)
def test_kinds_are_inferred(answer: Any, choices: Any, question: str, expected: tuple[str, str]) -> None:
    assert read_gold(answer, None, choices, question)[:2] == expected


def test_options_are_found_in_the_question() -> None:
    assert options_in("What is x?\nA. 1\nB. 2 cm\nC. none") == ("1", "2 cm", "none")
    assert options_in("AC ends at point A. Pick: (A) 3 (B) 4") == ("3", "4")
    assert options_in("Angle A. Nothing to pick.") == () == options_in("")


def test_a_given_kind_is_held() -> None:
    assert read_gold(3.0, "integer", None, "")[:2] == ("3", "integer")
    assert read_gold("3", "float", None, "")[:2] == ("3", "float")
    assert read_gold("3", "text", None, "")[:2] == ("3", "text")
    assert read_gold("C", "choice", None, "options in the image") == Gold("C", "choice")
