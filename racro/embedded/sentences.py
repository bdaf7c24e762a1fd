"""The sentences of the bar world's captions: how a fact and an announced answer are written and read back.

Does not judge truth; `racro.embedded.oracle` does. Called by it and by the training examples.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from racro.embedded.world import COLOURS, Fact

ORDINALS = ("first", "second")
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
"""Heights as words. Qwen's tokenizer puts a token between a word and a digit; when a colour stands right beside its
height, models this small learn to look it up in minutes instead of hours."""
_STATEMENT = re.compile(
    rf"\b(?:(?P<image>{'|'.join(ORDINALS)}) )?(?P<colour>{'|'.join(COLOURS)}) (?P<height>{'|'.join(NUMBERS)})\.",
    re.IGNORECASE,
)
_ANNOUNCEMENT = re.compile(r"\banswer is\b|\\boxed", re.IGNORECASE)


class Statement(NamedTuple):
    """A sentence about a bar, true or not. `image` is None if the sentence names no image."""

    image: int | None
    colour: str
    height: int


def state(fact: Fact, images: int) -> str:
    """The sentence that states a fact; if there are several images, it names one."""
    place = f"{ORDINALS[fact.image]} " if images > 1 else ""
    return f"{place}{fact.colour} {word(fact.height)}."


def word(height: int) -> str:
    """A height as a word."""
    return NUMBERS[height - 1]


def announce(answer: str) -> str:
    """The sentence that gives the answer away instead of describing."""
    return f"The answer is {answer}."


def statements(caption: str) -> list[Statement]:
    """Every sentence about a bar, in order, including repetitions."""
    return [
        Statement(
            ORDINALS.index(match["image"].lower()) if match["image"] else None,
            match["colour"].lower(),
            NUMBERS.index(match["height"].lower()) + 1,
        )
        for match in _STATEMENT.finditer(caption)
    ]


def announces(caption: str) -> bool:
    """Does the caption announce an answer?"""
    return _ANNOUNCEMENT.search(caption) is not None
