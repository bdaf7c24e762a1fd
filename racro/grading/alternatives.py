"""The alternatives that a question names: "red bar" and "blue bar" of "the red bar or the blue bar".

Works with words alone. Called by `racro.grading.restating`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from racro.grading.asking import FILLERS, stem
from racro.grading.words import words

LONGEST = 6
"""Words of an alternative."""
_ASKING = frozenset(["which", "what", "who", "whom", "whose", "where", "when", "how", "why"])
_ARTICLES = frozenset(["the", "a", "an"])
_PLACING = "on in at to from by off out under over above below behind beside inside outside near"
_PLACES = frozenset(_PLACING.split())
_ENDING = _ARTICLES | _PLACES | {"after", "before", "during", "when", "while", "since", "until", "between", "of"}
"""What goes on behind the last alternative."""
_GRADED = re.compile(r"\w{2,}(?:er|est)|more|most|less|least")
_ALTERNATIVES = re.compile(r"\b(?:between|among|of|from)\s+([^?.;:]{3,120})", re.IGNORECASE)


@lru_cache(1024)
def alternatives(question: str) -> tuple[frozenset[str], tuple[frozenset[str], ...]]:
    """The words of a question, and the alternatives that it names, each by the words that only it has."""
    plain = " ".join(question.split())
    asked = frozenset(map(stem, words(plain).split()))
    listed = _items(plain)
    shared = frozenset.intersection(*listed) if listed else frozenset()
    own = [item - shared for item in listed]
    if not all(_graded(item) for item in own):  # "larger or smaller"
        own = [frozenset(word for word in item if not _graded({word})) for item in own]
    return asked, tuple(item for item in own if item)


def _graded(words: Iterable[str]) -> bool:
    return all(map(_GRADED.fullmatch, words))


def _alternative(last: list[str], before: list[str]) -> list[str]:
    """The last alternative without what the question goes on with: "outside" of "inside or outside the box"."""
    other = before[-len(last) :]
    for at, word in enumerate(last[1:], 1):
        if word == "than" or (word in _ENDING and other[at : at + 1] != [word]):
            last = last[:at]
            break
    while last[-1] in FILLERS and len(last) > 1:
        last = last[:-1]
    return last


def _items(question: str) -> list[frozenset[str]]:
    """The words of each alternative: around "or", and in "between ... and ..."."""
    before, found, after = question.lower().rpartition(" or ")
    before = before.rpartition(": ")[2]
    if not found:
        between = _ALTERNATIVES.search(question.lower())
        if between is None or " and " not in between[1]:
            return []
        before, _, after = between[1].rpartition(" and ")
    last = re.split(r"[?.,;:!)]", after)[0].split()[:LONGEST]
    bare = last[:1] and last[0] not in _ARTICLES
    if last and last[0] in _PLACES and before.split()[-1:] and before.split()[-1] in _PLACES:
        last = last[:1]  # "under or on the shelf"
    while len(last) > 1 and last and last[0] in FILLERS:
        last.pop(0)
    items = [part.split() for part in re.split(r"[,;:?.!(]|\b(?:among|between|of)\b", before) if part.strip()]
    if bare and items and last:
        last = _alternative(last, items[-1])
    length = max(1, len(last))
    chosen = [items[-1][-length:]] if items else []
    for item in items[-2::-1]:
        if item[0] in _ASKING or (bare and item[-length - 1 : -length] and item[-length - 1] in _ARTICLES):
            break  # "is the ball, left or right"
        chosen.append(item[-length:])
    spoken = [frozenset(words(" ".join(item)).split()) for item in (*chosen, last)]
    return [item - FILLERS or (item & _PLACES) for item in spoken]
