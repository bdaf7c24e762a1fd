"""What counts as no answer in a vote, and what does not."""

from __future__ import annotations

import pytest

from racro.grading.abstaining import abstains

SAID = (
    "unknown",
    r"\text{Unknown}",
    "**unknown**.",
    "The answer is unknown",
    "cannot be determined",
    "Cannot be determined from the given information.",
    "can't determine",
    "Not enough information",
    "There is not enough information to answer the question",
    r"\text{insufficient information}",
    "I don't know",
    "I do not know the height of the blue bar",
    "It is impossible to determine",
    "not given in the caption",
    "N/A",
    "?",
)
ANSWERS = (
    "3",
    "x",
    "Na",
    "none",
    "no",
    "no solution",
    "undefined",
    "does not exist",
    "red",
    "A",
    "the unknown soldier",
    "unknown variables: 3",
    "0",
    "not red",
    "not parallel",
    r"\emptyset",
)


@pytest.mark.parametrize("said", SAID)
def test_words_for_no_answer_abstain(said: str) -> None:
    assert abstains(said, "How high is the blue bar?")


@pytest.mark.parametrize("said", ANSWERS)
def test_answers_do_not_abstain(said: str) -> None:
    assert not abstains(said, "How high is the blue bar?")


@pytest.mark.parametrize(
    ("question", "choices"),
    [
        ("Which is taller?\nA. red\nB. blue\nC. cannot be determined", ()),
        ("Which is taller? (A) red (B) blue (C) Cannot be determined.", ()),
        ("Is it red, blue or cannot be determined?", ()),
        ("Which is taller?", ("red", "Cannot be determined")),
    ],
)
def test_what_the_question_offers_is_an_answer(question: str, choices: tuple[str, ...]) -> None:
    assert not abstains("cannot be determined", question, choices)
    assert abstains("unknown", question, choices)
