"""What a table knows about its images: cells with facts and with multiple-choice questions, for rewards.

An empty cell means that nothing is known, and costs the row nothing; one that cannot be read makes the row unusable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from racro.data.cells import BadGold, Unusable, is_number, quoted, sound
from racro.data.options import LETTERS, literal, read_options
from racro.schema import ChoiceQuestion, ImageFact

TEXTS = ("text", "fact", "content")
OPTIONS = ("options", "choices")


def read_facts(cell: Any) -> tuple[ImageFact, ...]:
    """Facts from a list of texts, or of mappings with text and weight. Raises Unusable."""
    return tuple(_fact(item) for item in _items(cell, "facts"))


def read_mcq(cell: Any) -> tuple[ChoiceQuestion, ...]:
    """Questions from a list of mappings with question, options and answer, a letter or an option. Raises Unusable."""
    return tuple(_question(item) for item in _items(cell, "mcq"))


def _items(cell: Any, name: str) -> list[Any]:
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    if cell is None or cell == "":
        return []
    if isinstance(cell, str):
        try:
            cell = literal(cell)
        except BadGold as error:
            raise Unusable(f"unreadable {name}", error.detail) from error
    if not isinstance(cell, list | tuple):
        raise Unusable(f"unreadable {name}", f"{quoted(cell)} is no list")
    return list(cell)


def _fact(item: Any) -> ImageFact:
    given = item if isinstance(item, Mapping) else {"text": item}
    text = next((given[name] for name in TEXTS if given.get(name)), None)
    weight = given.get("weight", 1.0)
    weight = 1.0 if weight is None else weight
    if not isinstance(text, str) or not sound(text, "a fact").strip():
        raise Unusable("unreadable facts", f"{quoted(item)} is no text")
    if not is_number(weight) or not 0 < float(weight) < math.inf:
        raise Unusable("unreadable facts", f"weight {quoted(weight)} is no number above 0")
    return ImageFact(text=text.strip(), weight=float(weight))


def _question(item: Any) -> ChoiceQuestion:
    if not isinstance(item, Mapping) or not isinstance(item.get("question"), str):
        raise Unusable("unreadable mcq", f"{quoted(item)} has no question")
    try:
        options = read_options(next((item[name] for name in OPTIONS if item.get(name) is not None), None))
    except BadGold as error:
        raise Unusable("unreadable mcq", f"{error.reason}: {error.detail}") from error
    if not options.texts:
        raise Unusable("unreadable mcq", f"{quoted(item['question'])} has no options")
    answer = str(item.get("answer", "")).strip()
    named = [i for i, text in enumerate(options.texts) if text == answer]
    if len(named) != 1:
        letter = answer.strip("(). ").upper()
        named = [i for i in range(len(options.texts)) if LETTERS[i] == letter]
    if len(named) != 1:
        raise Unusable("unreadable mcq", f"answer {quoted(answer)} is none of the options {list(options.texts)}")
    return ChoiceQuestion(
        question=sound(item["question"], "a question").strip(), options=options.texts, answer=named[0]
    )
