"""What is read from the reasoner's texts in the modes clues and check."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro.prompts import caption_again_messages, clues_messages, plain_text, shots_messages
from racro.rollouts.checks import NOT_SAID, missing
from racro.rollouts.clues import sub_questions


@pytest.mark.parametrize(
    ("text", "clues"),
    [
        ("What?\nWhere?", ["What?", "Where?"]),
        ("1. What?\n2) Where?\n(3) Who?\n- Why?\n* How?", ["What?", "Where?", "Who?"]),
        ("Here they are:\n\n**What?**\nWhat?\nI hope that helps.", ["What?"]),
        ("<think>Which?\nhm</think>What is 3. there?", ["What is 3. there?"]),
        ("the colour\nthe height", ["the colour", "the height"]),
        ("<think>Which?", []),
        ("\n--\n", []),
    ],
)
def test_sub_questions_are_lines(text: str, clues: list[str]) -> None:
    assert sub_questions(text, 3) == clues


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        (r"\boxed{3}", None),
        ("It cannot be answered. \\boxed{3}", None),
        (r"\boxed{cannot be answered} The height is missing.", "The height is missing"),
        (r"<think>\boxed{3}</think>\boxed{\text{Cannot be answered.}}" "\nThe\nheight.", "The height"),
        (r"The height is not given: \boxed{cannot~be~answered}.", "The height is not given"),
        (r"\boxed{cannot be answered}", NOT_SAID),
        (r"\boxed{cannot be answered}, or rather \boxed{3}", None),
        (r"<think>\boxed{cannot be answered}", None),
        ("", None),
    ],
)
def test_what_is_missing_is_said_after_the_box(text: str, lacks: str | None) -> None:
    assert missing(text) == lacks


@given(st.text(alphabet="ab{}%\\\n", max_size=20).map(str.strip))
def test_prompts_hold_what_is_written_whatever_it_is(text: str) -> None:
    again = caption_again_messages(f"<image>{text}?", text, 1)[-1]
    assert [part["type"] for part in again["content"]].count("image") == 1
    assert f"{text}?" in plain_text(again) and f"What is missing: {text}\n" in plain_text(again)
    assert text in plain_text(clues_messages("q", "c", text)[-1])
    shown = plain_text(shots_messages("q", text, [("Q", "C", text)])[-1])
    assert f"\\boxed{{{text}}}" in shown and shown.endswith("put in \\boxed{}.")


def test_what_is_missing_adds_no_image() -> None:
    messages = caption_again_messages("<image> How high?", "the <image> height", 1)
    assert [part["type"] for part in messages[-1]["content"]].count("image") == 1
