"""Lists of options and values in a sentence, whatever stands between them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racro.grading import grade
from racro.schema import Gold, Verdict
from tests.support.examples import examples

OPTIONS = ("red", "blue", "green", "12", "14")
BETWEEN = ("; ", ", ", " / ", "/", " & ", " and ", "; and ", ", and ", " | ", " + ", ";\n", "\n")
SENTENCES = ("The answer is {}", "The answer is {}.", "Answer: {}", "**Final answer:** {}", "So the answer is {}")
MARKS = ("{}", "({})", "**{}**", r"\text{{{}}}")


@settings(deadline=None, max_examples=examples(60))
@given(
    st.lists(st.sampled_from("ABCDE"), min_size=2, max_size=4, unique=True),
    st.sampled_from(BETWEEN),
    st.sampled_from(SENTENCES),
    st.sampled_from(MARKS),
    st.booleans(),
)
def test_all_options_of_a_list_are_read(
    letters: list[str], between: str, sentence: str, mark: str, optionless: bool
) -> None:
    if between == "\n":
        sentence = sentence.replace("{}", "\n{}").rstrip(".")
    listed = between.join(map(mark.format, letters))
    gold = Gold(",".join(sorted(letters)), "choices", () if optionless else OPTIONS)
    assert grade(sentence.format(listed), "stop", gold).verdict is Verdict.CORRECT
    fewer = gold._replace(answer=",".join(letters[:-1]))
    assert grade(sentence.format(listed), "stop", fewer).verdict is not Verdict.CORRECT


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("The answer is A; C; because they are equal.", "A,C"),
        ("The answer is A; it is C that fails.", "A"),
        ("The answer is A; C is wrong.", "A"),
        ("The answer is A. red; D. 12", "A,D"),
        ("The answer is {A; C}", "A,C"),
        ("A and C are correct.", "A,C"),
        ("A red bar. B is right.", "B"),
        ("The answer is:\n- A\n- C", "A,C"),
        ("1. A\n2. C", "A,C"),
        ("Options:\nA\nB\nThe answer is B", "B"),
    ],
)
def test_a_list_ends_where_something_else_begins(said: str, answer: str) -> None:
    assert grade(said, "stop", Gold(answer, "choices", OPTIONS)).verdict is Verdict.CORRECT


@pytest.mark.parametrize("between", ["; ", ", ", " and ", "; and "])
@pytest.mark.parametrize("kind", ["set", "list"])
def test_all_values_of_a_list_are_read(between: str, kind: str) -> None:
    gold = Gold("1, 2, 3", kind)  # type: ignore[arg-type]
    assert grade(f"The answer is {between.join('123')}.", "stop", gold).verdict is Verdict.CORRECT
    assert grade(f"The answer is {between.join('123')}; see above", "stop", gold).verdict is Verdict.CORRECT
    assert grade(f"The answer is {between.join('12')}; 3 is too small", "stop", gold).verdict is Verdict.WRONG


@pytest.mark.parametrize("form", ["\\boxed{{{}}}", "The answer is {}.", "It is {}.", "<answer>{}</answer>", "{}"])
def test_the_other_case_of_a_symbol_is_another_unit_where_both_are_units(form: str) -> None:
    pairs = [("3 T", "3 t"), ("9 cm", "9 Cm"), ("5 mT", "5 mt"), ("5 s", "5 S"), ("2 h", "2 H")]
    pairs += [("3T", "3t"), ("5 mm", "5 Mm"), ("5 MW", "5 mW"), ("5 nm", "5 Nm")]
    there = [("5 B", "5 b"), ("5 g", "5 G")]  # b and G alone are variables more often
    for one, other in (*pairs, *((other, one) for one, other in pairs), *there):
        for kind in ("text", "integer"):
            gold = Gold(one, kind)  # type: ignore[arg-type]
            if grade(f"\\boxed{{{one}}}", "stop", gold).verdict is Verdict.CORRECT:
                assert grade(form.format(other), "stop", gold).verdict is not Verdict.CORRECT, (one, other, kind)


@pytest.mark.parametrize(("one", "other"), [("5 km", "5 KM"), ("5 kWh", "5 KWH"), ("5 Hz", "5 hz"), ("5 K", "5 k")])
def test_the_other_case_of_a_symbol_that_is_no_other_unit_is_the_same(one: str, other: str) -> None:
    assert grade(f"The answer is {other}.", "stop", Gold(one, "integer")).verdict is Verdict.CORRECT
