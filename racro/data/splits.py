"""Which rows are held out, and in which order problems come: pure functions of content and seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from racro.identity import digest
from racro.schema import Problem


def is_heldout(group: str, seed: int, share: float) -> bool:
    """Does a group of rows that share images belong to the held-out part? A pure function of the arguments."""
    hashed = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(hashed[:8], "big") < share * 2**64


def groups(images_P: Sequence[Sequence[str]]) -> list[str]:
    """For each row the smallest hash of its group: rows are in one group when shared images connect them."""
    parent: dict[str, str] = {}

    def root(image: str) -> str:
        while (above := parent.setdefault(image, image)) != image:
            parent[image] = image = parent[above]
        return image

    for shown in images_P:
        for image in shown:
            low, high = sorted((root(shown[0]), root(image)))
            parent[high] = low
    return [root(shown[0]) for shown in images_P]


def rank(problem: Problem, seed: int) -> str:
    """Sort key of a random order that depends only on content, not on the order or numbers of rows."""
    return digest([seed, problem.question, problem.answer, [image.sha256 for image in problem.images]])
