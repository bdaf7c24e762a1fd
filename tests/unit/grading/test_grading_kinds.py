"""Every kind of answer takes what means the same, in any dress, and refuses what does not; gold is equal to gold.

Among the cases are those that math-verify's own tests are about, written anew.
"""

from __future__ import annotations

import string
from typing import get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from racro.grading import canary, equal, grade
from racro.schema import AnswerKind, Gold, Verdict
from tests.support.examples import examples

SAME: list[tuple[AnswerKind, str, list[str]]] = [
    ("integer", "1200", ["1 200", r"1{,}200", r"1,\!200", r"1.2 \times 10^3", "1.2 x 10^3", "1.2e3", "10^3 + 200"]),
    (
        "integer",
        "5",
        ["five", "5 apples", r"5 \text{ students}", r"\sqrt{25}", "10/2", r"x \approx 5", "5 = 5"],
    ),
    ("integer", "5000000", ["5 million", "5 million people"]),
    ("integer", "120", ["120°", r"120^\circ", "120 degrees", r"\angle A = 120^{\circ}"]),
    ("float", "1.3 cm", ["1.3", "1.3 cm", "13 mm", "0.013 m", r"1.3\text{ cm}", "1,3 cm"]),
    ("float", "36 km/h", ["10 m/s", "36 km per hour"]),
    ("float", "0.5", ["50 %", r"50\%", "1/2", r"\frac12", r"\dfrac{1}{2}", "50 percent", "0.50"]),
    ("float", "2.5", ["2 1/2", r"2\frac{1}{2}", "5/2"]),
    ("float", "1.414", [r"\sqrt{2}", "√2", "sqrt(2)", "2^{1/2}"]),
    ("expression", "x = 5", ["5", "x=5", "5 = x", "$x = 5$", r"\(x=5\)."]),
    ("expression", "2x+1", ["1+2x", "y = 2x + 1", r"2\left(x + \frac{1}{2}\right)"]),
    ("expression", r"2\sqrt{3}", [r"\sqrt{12}", "2√3", "2*sqrt(3)", r"\frac{6}{\sqrt 3}"]),
    ("expression", "[0,1)", ["[0, 1)", r"\left[0,1\right)", r"0 \le x < 1", "0 <= x < 1"]),
    ("expression", r"(-\infty, 2) \cup (3, \infty)", ["(-∞,2)∪(3,∞)"]),
    ("expression", "x^2 + y^2 = 4", ["y^2 + x^2 = 4", "x^2 + y^2 - 4 = 0"]),
    ("expression", "3/4", ["0.75", r"\frac{3}{4}", "6/8"]),
    ("expression", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", [r"\begin{bmatrix}1&2\\3&4\end{bmatrix}"]),
    ("list", "(1, 2)", ["1, 2", "[1,2]", "x=1, y=2", "(1.0, 2)", r"\left(1, \frac{4}{2}\right)"]),
    ("list", "[1,200, 3]", ["1,200, 3"]),
    ("set", "{1, 2}", ["2, 1", r"\{2, 1\}", "x = 1 or x = 2", "1 and 2", "x_1=2, x_2=1", "{1, 2, 2}"]),
    ("set", r"\pm 2", ["2, -2", "-2 and 2", "±2"]),
    ("set", "(1,2), (3,4)", ["(3, 4) and (1, 2)"]),
    ("choices", "A, C", ["C, A", "AC", "A and C", "(A) and (C)", "Options A and C", "both A and C", "A. 12; C. 14"]),
    ("yesno", "yes", ["Yes.", "True", "yes, because it is red", "**Yes**"]),
    ("yesno", "false", ["No", "FALSE", "no."]),
    ("text", "September", ["Sep", "september"]),
]
OTHER: list[tuple[AnswerKind, str, list[str]]] = [
    ("integer", "9", ["(0,9)", "0,9", "9 or 10", "9x", "x > 9", "nine hundred"]),
    ("integer", "2", ["1,2", "{1, 2}"]),
    ("float", "1.3 cm", ["1.3 m", "1.3 kg", "1.4 cm"]),
    ("float", "1.414", [r"\sqrt{3}", r"\sqrt{x}"]),
    ("expression", "x = 5", ["y = 5", "x = 6", "x > 5"]),
    ("expression", "[0,1)", ["(0,1)", "[0,1]", "[0,2)"]),
    ("expression", "2x + z = 1", ["1"]),
    ("expression", "BA", ["AB"]),
    ("expression", "2x+1", ["2x+2", "12", "A. 2"]),
    ("list", "(1, 2)", ["(2, 1)", "1", "(1, 2, 3)"]),
    ("set", "{1, 2}", ["1", "1, 2, 3", "12"]),
    ("choices", "A, C", ["A", "A, B, C", "B, D", "all"]),
    ("yesno", "yes", ["no", "maybe", "yes and no"]),
]


@pytest.mark.parametrize(("kind", "gold", "answers"), SAME)
def test_what_means_the_same_is_equal(kind: AnswerKind, gold: str, answers: list[str]) -> None:
    assert [found for found in answers if not equal(found, Gold(gold, kind))] == []


@pytest.mark.parametrize(("kind", "gold", "answers"), OTHER)
def test_what_means_something_else_is_not(kind: AnswerKind, gold: str, answers: list[str]) -> None:
    assert [found for found in answers if equal(found, Gold(gold, kind))] == []


def test_a_precision_rounds_and_a_tolerance_does_not() -> None:
    rounded, exact = Gold("120.5", "float", precision=1), Gold("2.0944", "float", tolerance=1e-3)
    assert equal("120.46", rounded) and equal("120.5", rounded)
    assert not equal("120.6", rounded), "it is within a thousandth, but one decimal is asked for"
    assert equal("2.095", exact) and not equal("2.096", exact)


def test_a_unit_that_the_question_asks_for_may_be_left_out_or_converted() -> None:
    asked = Gold("1.3", "float", unit="cm")
    assert equal("1.3", asked) and equal("1.3 cm", asked) and equal("13 mm", asked)
    assert not equal("1.3 m", asked)


def test_an_option_may_be_named_by_its_value() -> None:
    gold = Gold("B", "choice", (r"\frac{√{15}}{2}", r"\frac{3√{5}}{2}", "10 cm", "4.40米"))
    assert equal(r"\frac{3\sqrt{5}}{2}", gold) and equal("(B)", gold)
    assert equal("10", gold._replace(answer="C")) and equal("4.40 meters", gold._replace(answer="D"))
    assert not equal(r"\frac{\sqrt{15}}{2}", gold)


# --- for any gold -----------------------------------------------------------------------------------------------------

numbers = st.one_of(
    st.integers(-(10**9), 10**9).map(str),
    st.decimals(-1000, 1000, places=2, allow_nan=False).map(str),
    st.tuples(st.integers(1, 99), st.integers(1, 99)).map(lambda n: f"\\frac{{{n[0]}}}{{{n[1]}}}"),
)
values = st.lists(numbers, min_size=2, max_size=4).map(", ".join)
words = st.text(string.ascii_lowercase, min_size=2, max_size=8).map(lambda word: f"{word} bar")
letters = st.sets(st.sampled_from("ABCDE"), min_size=2).map(lambda found: ", ".join(sorted(found)))
OPTIONS = ("red", "2", "10 cm", "√3")
golds = st.one_of(
    numbers.map(lambda answer: Gold(answer, "float")),
    numbers.map(lambda answer: Gold(answer, "expression")),
    st.integers().map(lambda answer: Gold(str(answer), "integer")),
    values.map(lambda answer: Gold(answer, "list")),
    values.map(lambda answer: Gold(answer, "set")),
    words.map(lambda answer: Gold(answer, "text")),
    words.map(lambda answer: Gold(answer, "expression")),
    letters.map(lambda answer: Gold(answer, "choices")),
    st.sampled_from("ABCD").map(lambda answer: Gold(answer, "choice", OPTIONS)),
    st.sampled_from(["Yes", "no", "True"]).map(lambda answer: Gold(answer, "yesno")),
)
DRESSES = ["{}", " {} ", "${}$", r"\({}\)", "{}.", "**{}**", "`{}`", "  {}\n", r"\displaystyle {}", r"\mathbf{{{}}}"]


@settings(deadline=None)
@given(golds)
def test_gold_is_correct_against_itself(gold: Gold) -> None:
    assert canary(gold)


@settings(deadline=None)
@given(golds, st.sampled_from(DRESSES))
def test_formatting_changes_no_verdict(gold: Gold, dress: str) -> None:
    assert equal(dress.format(gold.answer), gold)
    assert grade(f"So: \\boxed{{{gold.answer}}}", "stop", gold).verdict is Verdict.CORRECT
    assert grade(f"The answer is {gold.answer}", "stop", gold).verdict is Verdict.CORRECT


@settings(deadline=None)
@given(golds, golds, st.sampled_from(DRESSES[:6]))
def test_formatting_changes_no_verdict_on_another_answer(gold: Gold, other: Gold, dress: str) -> None:
    assert equal(dress.format(other.answer), gold) == equal(other.answer, gold)


PIECES = [
    *r"{}()[],;=+-*/^_.%°$|!<≥√π½x9AB",
    "\\boxed{",
    "\\frac{1}{2}",
    "\\text{ and }",
    "\\left(",
    "\\pm",
    "1,200",
    "e9",
]
KINDS: tuple[AnswerKind, ...] = get_args(AnswerKind)


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.sampled_from(KINDS))
@example("\\sum_{i=1}^{n}", "expression")
@example("|(1, 2)\x000/0/", "expression")
@example("\\frac{1}{0}", "float")
@example("10^{400}", "float")
@example("(" * 900, "set")
def test_any_answer_of_any_kind_gets_a_verdict(text: str, kind: AnswerKind) -> None:
    for response in (f"\\boxed{{{text}}}", f"the answer is {text}", text):
        assert grade(response, "stop", Gold("7", kind, ("1", "√3"))).verdict in Verdict
    if text.strip() and text.count("{") == text.count("}") and "\\" not in text:
        assert equal(text, Gold(text, kind))
