"""What is said in words means what it means in signs, and nothing else: times, numbers, scales, ordinals, figures."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from racro.data.golds import read_gold
from racro.grading import equal, grade
from racro.grading.english import ORDINALS, WORDS, spelled
from racro.schema import AnswerKind, Gold, Verdict

LARGE = {"trillion": 10**12, "billion": 10**9, "million": 10**6, "thousand": 10**3, "hundred": 100}
LETTERS = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "bn": 10**9, "mn": 10**6}


def in_words(value: int, joint: str = " ") -> str:
    """A whole number as it is said."""
    for name, scale in LARGE.items():
        if value >= scale:
            rest = value % scale
            return in_words(value // scale) + f" {name}" + (joint + in_words(rest, joint) if rest else "")
    tens = {number: word for word, number in WORDS.items()}
    return tens[value] if value in tens else f"{tens[value - value % 10]}-{tens[value % 10]}"


def right(response: str, answer: str, kind: AnswerKind | None = None, question: str = "") -> bool:
    gold = Gold(answer, kind) if kind else read_gold(answer, None, None, question)
    return grade(response, "stop", gold._replace(question=question)).verdict is Verdict.CORRECT


numbers = st.one_of(st.integers(0, 3000), st.integers(0, 10**13))


@given(numbers, st.sampled_from([" ", " and "]))
def test_a_number_in_words_is_the_number(value: int, joint: str) -> None:
    assert spelled(in_words(value, joint)) == (value, "")


@given(numbers, numbers)
def test_a_number_in_words_is_no_other_number(said: int, meant: int) -> None:
    assert right(in_words(said), str(meant), "integer") == (said == meant)


@given(st.integers(1, 99), st.integers(1, 99), st.sampled_from(["dozen", "dozen eggs", "dozens"]))
def test_a_dozen_is_twelve(said: int, meant: int, dozen: str) -> None:
    assert right(f"There are {said} {dozen}.", str(12 * meant), "integer") == (said == meant)
    assert right(f"{in_words(said)} {dozen}", str(12 * meant), "integer") == (said == meant)
    assert right(f"{said} {dozen}", str(meant), "integer", "How many dozen eggs are there?") == (said == meant)


@given(st.integers(1, 9999), st.sampled_from(sorted(LETTERS)), st.integers(1, 9999), st.sampled_from(sorted(LETTERS)))
def test_a_letter_behind_a_number_is_its_scale(tenths: int, letter: str, others: int, other: str) -> None:
    value, gold = Fraction(tenths * LETTERS[letter], 10), Fraction(others * LETTERS[other], 10)
    assume(value.denominator == gold.denominator == 1)
    for money in ("", "$"):
        assert equal(f"{money}{tenths / 10}{letter}", Gold(f"{money}{value}", "integer"))
        assert equal(f"{money}{tenths / 10}{letter}", Gold(f"{money}{gold}", "integer")) == (value == gold)


@given(st.integers(2, 99), st.sampled_from(sorted(LETTERS)))
def test_a_scale_of_one_letter_is_no_small_number(value: int, letter: str) -> None:
    assert not equal(f"${value}{letter}", Gold(f"${value}", "integer"))
    assert not equal(f"{value} dozen", Gold(str(value), "integer"))


def test_a_letter_that_the_question_has_is_a_variable() -> None:
    assert right("5000", "5k", question="How many followers are there?")
    assert not right("5000", "5k", question="What is 2k + 3k?")


hours, minutes = st.integers(1, 12), st.integers(1, 59)


def told(hour: int, minute: int, long: bool) -> str:
    """A time of day as it is said."""
    words = in_words(minute if minute <= 30 else 60 - minute) + (" minutes" if long else "")
    words = {15: "a quarter", 30: "half", 45: "a quarter"}.get(minute, words)
    return f"{words} past {in_words(hour)}" if minute <= 30 else f"{words} to {in_words(hour % 12 + 1)}"


@given(hours, minutes, hours, minutes, st.booleans())
def test_a_time_that_is_said_is_the_time_and_no_other(hour: int, minute: int, h: int, m: int, long: bool) -> None:
    same = (hour, minute) == (h, m)
    for text in ("{}", "The clock shows {}.", "It is {} in the afternoon."):
        assert right(text.format(told(hour, minute, long)), f"{h}:{m:02}", "text", "What time is it?") == same
        assert right(text.format(f"{hour}:{minute:02}"), told(h, m, long), "text", "What time is it?") == same


@given(
    hours,
    minutes,
    st.sampled_from(["The clock does not show {}.", "It is {0} or {1}.", "From {0} to {1}.", "before {}"]),
)
def test_a_time_that_is_denied_or_a_bound_is_none(hour: int, minute: int, text: str) -> None:
    said = text.format(told(hour, minute, False), told(hour, (minute + 1) % 59 + 1, False))
    assert not right(said, f"{hour}:{minute:02}", "text", "What time is it?")


@given(st.integers(1, 99), st.integers(1, 99), st.sampled_from(["floor", "week", "quadrant", "grade"]))
def test_the_third_week_is_week_3(said: int, meant: int, noun: str) -> None:
    ending = "th" if 10 < said < 20 else {1: "st", 2: "nd", 3: "rd"}.get(said % 10, "th")
    for text in (f"the {ORDINALS[said]} {noun}", f"{said}{ending} {noun}", f"{noun.title()} {said}"):
        assert right(text, f"{noun} {meant}", "text") == (said == meant)
        assert not right(f"{said + 1} {noun}s", f"{noun} {meant}", "text")


@given(st.integers(1, 40), st.integers(2, 40), st.integers(1, 40), st.integers(2, 40))
def test_a_part_of_a_number_of_things_is_a_fraction(part: int, whole: int, top: int, bottom: int) -> None:
    assume(part <= whole and top < bottom)
    same = Fraction(part, whole) == Fraction(top, bottom)
    assert right(f"{part} out of {whole}", f"{top}/{bottom}") == same
    assert right(f"{in_words(part)} in {in_words(whole)}", f"{top}/{bottom}") == same
    assert right(f"{part} out of {whole}", str(top), "integer") == (part == top)


MARKS = {
    "segment": [r"\overline{{{}}}", "segment {}", "side {}", r"\(\overline{{{}}}\)", "line segment {}"],
    "vector": [r"\vec{{{}}}", r"\overrightarrow{{{}}}", "vector {}"],
    "angle": [r"\angle {}", "∠{}", "angle {}", r"m\angle {}"],
    "triangle": [r"\triangle {}", "△{}", "triangle {}"],
}
SAME = {
    "segment": ["AB", "BA"],
    "vector": ["AB"],
    "angle": ["ABC", "CBA"],
    "triangle": ["ABC", "ACB", "BAC", "BCA", "CAB", "CBA"],
}
OTHERS = {
    "segment": ["AC", "CB", "CD"],
    "vector": ["BA", "AC", "CD"],
    "angle": ["BAC", "ACB", "BCA", "ABD"],
    "triangle": ["ABD", "DEF"],
}


@pytest.mark.parametrize("kind", MARKS)
def test_a_figure_has_many_names_and_no_other_has_them(kind: str) -> None:
    for mark in MARKS[kind]:
        gold = mark.format(SAME[kind][0])
        for form in MARKS[kind]:
            for name in SAME[kind]:
                assert right(form.format(name), gold), (form.format(name), gold)
                assert right(f"The longest one is ${form.format(name)}$.", gold)
                assert not right(f"The longest one is not ${form.format(name)}$.", gold)
            for name in OTHERS[kind]:
                assert not right(form.format(name), gold), (form.format(name), gold)
        for other in MARKS.keys() - {kind}:
            assert not any(right(form.format(SAME[other][0]), gold) for form in MARKS[other])


def test_a_bar_over_letters_of_logic_is_no_segment() -> None:
    assert not right("AB", r"\overline{AB}", question="Simplify the Boolean expression.")
    assert right("AB", r"\overline{AB}", question="Which side is the longest?")


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
def test_a_range_is_its_two_ends(low: int, high: int, a: int, b: int) -> None:
    assume(low < high and a < b)
    for text in (f"{low}-{high}", f"from {low} to {high}", f"between {low} and {high}", f"{low}–{high}"):
        assert right(text, f"{a} to {b}", "text") == ((low, high) == (a, b))
    assert not right(f"{high} to {low}", f"{low} to {high}", "text")
