"""The grader takes what means the same, refuses what does not, and ends on any text."""

from __future__ import annotations

import random
import string
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro import grading
from racro.grading import extract
from racro.grading.extraction import LONGEST
from racro.grading.numbers import number
from racro.schema import AnswerKind, FinishReason, Gold, Verdict

KINDS: tuple[AnswerKind, ...] = ("integer", "float", "choice", "text")
COLOURS = ("red", "blue", "equal")
words = st.text(string.ascii_letters, min_size=1, max_size=8)


def verdict(response: str, answer: str, kind: AnswerKind, choices: tuple[str, ...] = ()) -> Verdict:
    return grading.grade(response, "stop", Gold(answer, kind, choices)).verdict


def grade(response: str, reason: FinishReason, answer: str, kind: AnswerKind) -> Verdict:
    return grading.grade(response, reason, Gold(answer, kind, COLOURS)).verdict


def equal(found: str, answer: str, kind: AnswerKind, choices: tuple[str, ...] = ()) -> bool:
    return grading.equal(found, Gold(answer, kind, choices))


# --- finding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "found"),
    [
        (r"red 3, blue 6: 3 + 6 = \boxed{9}", "9"),
        (r"\boxed{3} or rather \boxed{4}.", "4"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\boxed{3}}", "3"),
        (r"\boxed{\text{the set } \{1, 2\}}", r"\text{the set } \{1, 2\}"),
        (r"{ and an open brace: \boxed{3}", "3"),
        (r"the line ends\\\boxed{3}", "3"),
        (r"\boxed{4} \boxed{}", "4"),
        (r"\boxed{4} \boxed{5", "4"),
        (r"<think>\boxed{3}</think>So \boxed{4}", "4"),
        (r"<think>\boxed{3}</think>So the answer is 4.", "4"),
        (r"\boxed{2}</think>hm</think>\boxed{4}", "4"),
        ("The answer is 3.5. That was easy", "3.5"),
        ("**Answer:** B", "B"),
        ("Final answer: **12**", "12"),
        ("We add them.\n\n7", "7"),
        ("We add them.\n**(B)**", "(B)"),
    ],
)
def test_the_answer_is_found(response: str, found: str) -> None:
    assert extract(response) == found


@pytest.mark.parametrize(
    "response",
    [
        "",
        "I see 3 bars and 4 lines",
        r"\boxed{}",
        r"\boxed{3",
        "<think>I would say \\boxed{3}",
        r"\boxed{3}</think>",
        "The bars are tall.\nA red one is among them",
    ],
)
def test_what_is_no_answer_is_not_taken_for_one(response: str) -> None:
    assert extract(response) is None
    assert verdict(response, "3", "integer") is Verdict.UNPARSED
    assert grade(response, "length", "3", "integer") is Verdict.TRUNCATED


def test_of_a_cut_output_only_a_closed_box_counts() -> None:
    assert grade("The answer is 1", "length", "1", "integer") is Verdict.TRUNCATED, "it may have become 12"
    assert grade(r"\boxed{12} because", "length", "12", "integer") is Verdict.CORRECT
    assert grade(r"\boxed{12}", "deadline", "12", "integer") is Verdict.FAILED


@given(
    st.text(max_size=50), st.text("ab 12+-", min_size=1, max_size=20).filter(str.strip), st.text("ab .\n", max_size=50)
)
def test_a_box_is_found_in_any_text(before: str, content: str, after: str) -> None:
    before = before.replace("\\", "/").replace("<think>", "")
    assert extract(before + "\\boxed{" + content + "}" + after) == content.strip()


# --- comparing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "answer", "kind"),
    [
        ("1,200", "1200", "integer"),
        ("1{,}200", "1200", "integer"),
        ("7.0", "7", "integer"),
        ("x = 5", "5", "integer"),
        ("3 + 4 = 7", "7", "integer"),
        ("120°", "120", "integer"),
        (r"120^\circ", "120", "integer"),
        (r"120^{\circ}", "120", "integer"),
        (r"5 \text{ cm}^2", "5", "integer"),
        ("5 min", "5", "integer"),
        (r"\$5", "5", "integer"),
        ("−5", "-5", "integer"),
        (r"1.2 \times 10^{3}", "1200", "integer"),
        ("50 %", "0.5", "float"),
        (r"50\%", "50", "float"),
        ("0.5", "50%", "float"),
        ("1/2", "0.5", "float"),
        (r"-\dfrac{1}{2}", "-0.5", "float"),
        ("3.14159", "3.14", "float"),
        (r"x \approx 3.14", "3.14", "float"),
        (".5", "0.5", "float"),
        ("0.3333", "1/3", "float"),
        ("red", "Red", "text"),
        ("The  red bar.", "red bar", "text"),
        (r"\text{well-known}", "well known", "text"),
        ("5.0", "5", "text"),
        ("<", "<", "text"),
    ],
)
def test_the_same_is_equal(found: str, answer: str, kind: AnswerKind) -> None:
    assert equal(found, answer, kind)


@pytest.mark.parametrize(
    ("found", "answer", "kind"),
    [
        ("unknown", "3", "integer"),
        ("1,2", "12", "integer"),
        ("2(3)", "23", "integer"),
        ("5x", "5", "integer"),
        ("10²", "102", "integer"),
        ("1½", "11/2", "float"),
        ("5 or 6", "5", "integer"),
        ("5 million", "5", "integer"),
        ("a = 3, b = 5", "5", "integer"),
        ("x >= 5", "5", "integer"),
        ("-5", "5", "integer"),
        ("5/0", "5", "integer"),
        ("7.4", "7", "integer"),
        ("3.2", "3.14", "float"),
        ("3.1", "3.14", "float"),
        ("5.4", "5", "float"),
        ("0.05", "50%", "float"),
        ("BA", "AB", "text"),
        ("vitamin", "vitamin A", "text"),
        ("bar red", "red bar", "text"),
        (">", "<", "text"),
        ("9" * 60, "9" * 59 + "8", "integer"),
    ],
)
def test_something_else_is_not_equal(found: str, answer: str, kind: AnswerKind) -> None:
    assert not equal(found, answer, kind)
    assert verdict(f"\\boxed{{{found}}}", answer, kind) is Verdict.WRONG


@given(
    st.integers(-(10**12), 10**12),
    st.sampled_from(["{}", "{:,}", "{}.0", "x = {}", "\\({}\\)", "{} cm", "**{}**", "{}."]),
)
def test_an_integer_in_any_dress(value: int, dress: str) -> None:
    assert equal(dress.format(value), str(value), "integer")
    assert not equal(dress.format(value), str(value + 1), "integer")


@given(st.decimals(-(10**6), 10**6, places=3, allow_nan=False).filter(lambda d: abs(d) > 1), st.floats(-0.002, 0.002))
def test_a_float_has_a_tolerance_of_a_thousandth(gold: object, off: float) -> None:
    exact = Fraction(str(gold))
    found = float(exact) * (1 + off)
    if abs(off) < 0.00099:
        assert equal(f"{found:.9f}", str(gold), "float")
    if abs(off) > 0.00101 and abs(found - float(exact)) > 0.00051:
        assert not equal(f"{found:.9f}", str(gold), "float")


@given(st.integers(-999, 999), st.integers(1, 999))
def test_fractions_are_exact(top: int, bottom: int) -> None:
    for text in (f"{top}/{bottom}", f"\\frac{{{top}}}{{{bottom}}}", f"({top})/({bottom})"):
        read = number(text)
        assert read is not None
        assert read.value == Fraction(top, bottom)


@pytest.mark.parametrize(
    "found",
    [
        "B",
        "b",
        "(B)",
        "(b)",
        "B.",
        "B)",
        "B. blue",
        "B: blue",
        "B) blue",
        r"\text{B}",
        "Option B",
        "blue",
        "Blue.",
        "B blue",
    ],
)
def test_a_choice_by_letter_or_text(found: str) -> None:
    assert equal(found, "B", "choice", COLOURS)


@pytest.mark.parametrize(
    "found",
    [
        "A",
        "D",
        "A, B",
        "A and B",
        "B or A",
        "(A) or (B)",
        "AB",
        "B. red",
        "B) A",
        "red or blue",
        "purple",
        "A blue bar",
        "3",
    ],
)
def test_another_choice_or_two_of_them(found: str) -> None:
    assert not equal(found, "B", "choice", COLOURS)
    assert verdict(f"\\boxed{{{found}}}", "B", "choice", COLOURS) is Verdict.WRONG


@given(
    st.sampled_from("ABCD"),
    st.sampled_from("ABCD"),
    st.sampled_from(["{}, {}", "{}{}", "{} and {}", "{}/{}", "({}) ({})", "{}. {}", "{} {}"]),
)
def test_two_letters_are_never_one(first: str, second: str, form: str) -> None:
    if first != second:
        assert not equal(form.format(first, second), first, "choice")
        assert not equal(form.format(first, second), second, "choice", ("1", "2", "3", "4"))


@given(words, st.integers(0, 9))
def test_no_anagram_is_the_word(word: str, seed: int) -> None:
    letters = list(word.casefold())
    random.Random(seed).shuffle(letters)
    assert equal("".join(letters), word, "text") == ("".join(letters) == word.casefold())


@given(
    st.one_of(st.integers().map(str), st.decimals(allow_nan=False, allow_infinity=False).map(str), st.text(max_size=30))
)
def test_gold_is_equal_to_gold(gold: str) -> None:
    for kind in KINDS:
        assert equal(gold, gold, kind, COLOURS)


# --- bounds -----------------------------------------------------------------------------------------------------------


@given(st.text(max_size=200), st.sampled_from(KINDS), st.sampled_from(["stop", "length"]))
def test_any_text_gets_a_verdict(response: str, kind: AnswerKind, reason: str) -> None:
    for text in (response, f"\\boxed{{{response}}}", f"the answer is {response}"):
        assert grade(text, reason, "3", kind) in Verdict  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "piece",
    [
        "\\boxed{",
        "\\boxed{1}",
        "{",
        "}",
        "answer is ",
        "\\frac{",
        "\\text{",
        " ",
        "\n",
        "1",
        "1,",
        "=",
        "(",
        "%",
        "9e99",
        "1/",
        "**",
        "</think>",
        "<think>",
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_megabyte_of_anything_takes_no_time(piece: str, kind: AnswerKind) -> None:
    started = time.process_time()
    for response in (piece * (1_000_000 // len(piece)), "\\boxed{" + piece * 900 + "}", "\\boxed{" + piece * 90 + "}"):
        verdict(response, "3", kind, COLOURS)
    assert time.process_time() - started < 1


def test_nested_boxes_without_end_are_read() -> None:
    assert extract("\\boxed{" * 2000 + "3" + "}" * 2000) == "3"


def test_the_end_of_a_long_output_is_looked_at() -> None:
    assert extract("\\boxed{3}" + " so" * LONGEST) is None
    assert extract("so " * 400_000 + "\\boxed{3}") == "3"
