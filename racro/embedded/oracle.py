"""The oracle: what a caption states about a synthetic scene, and whether it is true.

Possible because the scene is known. Not a grader: it judges captions, not answers. Called by `racro.evaluation.scenes`
for problems that have a scene.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from racro.embedded.sentences import announces, statements
from racro.embedded.world import Fact


@dataclass(frozen=True)
class Facts:
    """A caption compared with its scene."""

    stated: int
    """Number of statements about bars, including repetitions."""
    true: int
    """Number of those statements that are true."""
    states_asked: bool
    """Is every fact that the question asks for stated, and none of them contradicted?"""
    leaks: bool
    """Does the caption announce an answer instead of only describing?"""


def inspect(caption: str, scene_json: str) -> Facts:
    """Compare a caption with the scene (`BarProblem.scene_json`) of its problem.

    With two images, a statement that does not say which one it means counts as not true, because it is useless.
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
