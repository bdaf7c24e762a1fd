"""The sentences of the bar world's captions: how a fact and an announced answer are written and read back.

Not a judge of truth: that is `oracle.py`, which calls this, as do the training examples.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from racro.embedded.world import Fact

ORDINALS = ("first", "second")
_STATEMENT = re.compile(
    rf"\b(?:in the (?P<image>{'|'.join(ORDINALS)}) image )?the (?P<colour>[a-z]+) bar is (?P<height>\d+)\b",
    re.IGNORECASE,
)
_ANNOUNCEMENT = re.compile(r"\banswer is\b|\\boxed", re.IGNORECASE)


class Statement(NamedTuple):
    """A sentence about a bar, true or not. `image` is None where the sentence names none."""

    image: int | None
    colour: str
    height: int


def state(fact: Fact, images: int) -> str:
    """The sentence that states a fact; among several images it names the one it means."""
    sentence = f"the {fact.colour} bar is {fact.height}."
    return f"In the {ORDINALS[fact.image]} image {sentence}" if images > 1 else sentence.capitalize()


def announce(answer: str) -> str:
    """The sentence that gives the answer away instead of describing."""
    return f"The answer is {answer}."


def statements(caption: str) -> list[Statement]:
    """Every sentence about a bar, in order, repetitions included."""
    return [
        Statement(
            ORDINALS.index(match["image"].lower()) if match["image"] else None,
            match["colour"].lower(),
            int(match["height"]),
        )
        for match in _STATEMENT.finditer(caption)
    ]


def announces(caption: str) -> bool:
    """Does the caption give an answer?"""
    return _ANNOUNCEMENT.search(caption) is not None
