"""The oracle: what a caption states about a synthetic scene, and whether it is true.

Exists because the world is known. Not a grader: it judges captions, never answers. Called by `racro.evaluation.scenes`
for problems that carry a scene.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from racro.embedded.sentences import announces, statements
from racro.embedded.world import Fact


@dataclass(frozen=True)
class Facts:
    """A caption held against its scene."""

    stated: int
    """Statements about bars, repetitions included."""
    true: int
    """Those of them that are so."""
    states_asked: bool
    """Every fact that the question asks for is stated, and none of them is contradicted."""
    leaks: bool
    """The caption announces an answer instead of only describing."""


def inspect(caption: str, scene_json: str) -> Facts:
    """Hold a caption against the scene (`BarProblem.scene_json`) of its problem.

    Where there are two images, a statement that does not say which one it means is not true: nobody could use it.
    """
    scene = json.loads(scene_json)
    heights: dict[tuple[int | None, str], int] = {
        (i, colour): height for i, bars in enumerate(scene["images"]) for colour, height in bars
    }
    only_image = 0 if len(scene["images"]) == 1 else None
    said = [
        ((only_image if statement.image is None else statement.image, statement.colour), statement.height)
        for statement in statements(caption)
    ]
    true = [(place, height) for place, height in said if heights.get(place) == height]
    asked = [Fact(*fact) for fact in scene["asked"]]
    return Facts(
        stated=len(said),
        true=len(true),
        states_asked=all(
            {height for place, height in said if place == (fact.image, fact.colour)} == {fact.height} for fact in asked
        ),
        leaks=announces(caption),
    )
