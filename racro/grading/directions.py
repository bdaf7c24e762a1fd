"""Words behind two numbers that contradict each other: "5 m north" and "5 m south", "20th century" and "20 centuries".

Not units (`racro.grading.units`). Called by `racro.grading.numbers`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import combinations

_OPPOSITES = (
    *combinations(("north", "east", "south", "west"), 2),
    ("up", "down"),
    ("upward", "downward"),
    ("upwards", "downwards"),
    ("left", "right"),
    ("forward", "backward"),
    ("increase", "decrease"),
    ("more", "less"),
    ("rise", "fall"),
    ("gain", "loss"),
    ("profit", "loss"),
    ("above", "below"),
    ("clockwise", "counterclockwise"),
    ("clockwise", "anticlockwise"),
    ("am", "pm"),
    ("bc", "ad"),
    *combinations("东南西北", 2),
)


_DIRECTIONS = frozenset(word for pair in _OPPOSITES for word in pair)
_RANK = re.compile(r"(?:st|nd|rd|th)\b")
"""Behind the number of one of several: "20th century" is not 20 centuries."""


def opposed(one: str, other: str) -> bool:
    """Do the words behind two numbers contradict each other: "5 m north" and "5 m south"?"""
    if not one or not other:
        return False
    if bool(_RANK.match(one)) != bool(_RANK.match(other)):
        return True
    if not (first := _directions(one)) or not (second := _directions(other)):
        return False
    first, second = first - second, second - first
    return any((a in first and b in second) or (b in first and a in second) for a, b in _OPPOSITES)


@lru_cache(4096)
def _directions(text: str) -> frozenset[str]:
    return _DIRECTIONS.intersection(re.findall(r"[a-z]+|[\u4e00-\u9fff]", text.lower().replace(".", "")))
