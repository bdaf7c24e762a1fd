"""The bar world's own facts, questions and references, and which facts a caption states: judges without a model.

Possible because the scene is known. Used by the rewards mcq and facts, and for reference captions; correctness asks
`racro.embedded.oracle`.
"""

from __future__ import annotations

import json
import random

from racro.embedded.sentences import NUMBERS, ORDINALS, state, statements, word
from racro.embedded.world import Fact
from racro.schema import ChoiceQuestion, ImageFact

OPTIONS = 4


def facts(scene_json: str) -> tuple[ImageFact, ...]:
    """A fact for each bar of each image (`BarProblem.scene_json`)."""
    bars, images = _bars(scene_json)
    return tuple(ImageFact(text=f"The {fact.colour} bar{_where(fact, images)} is {fact.height} high.") for fact in bars)


def quiz(scene_json: str) -> tuple[ChoiceQuestion, ...]:
    """A question about the height of each bar, in the order of the facts."""
    bars, images = _bars(scene_json)
    questions = []
    for number, fact in enumerate(bars):
        rng = random.Random(f"quiz:{scene_json}:{number}")
        others = rng.sample([height for height in range(1, len(NUMBERS) + 1) if height != fact.height], OPTIONS - 1)
        options = sorted([fact.height, *others])
        questions.append(
            ChoiceQuestion(
                question=f"How high is the {fact.colour} bar{_where(fact, images)}?",
                options=tuple(word(height) for height in options),
                answer=options.index(fact.height),
            )
        )
    return tuple(questions)


def description(scene_json: str) -> str:
    """The caption that states what the question asks for, and nothing else."""
    scene = json.loads(scene_json)
    return " ".join(state(Fact(*fact), len(scene["images"])) for fact in scene["asked"])


def stated(caption: str, scene_json: str) -> tuple[bool, ...]:
    """For each bar: does the caption state its height, and no other height of it?"""
    bars, images = _bars(scene_json)
    said: dict[tuple[int | None, str], set[int]] = {}
    for statement in statements(caption):
        image = 0 if images == 1 and statement.image is None else statement.image
        said.setdefault((image, statement.colour), set()).add(statement.height)
    return tuple(said.get((fact.image, fact.colour)) == {fact.height} for fact in bars)


def _bars(scene_json: str) -> tuple[list[Fact], int]:
    """All bars, and the number of images."""
    scenes = json.loads(scene_json)["images"]
    return [Fact(i, colour, height) for i, bars in enumerate(scenes) for colour, height in bars], len(scenes)


def _where(fact: Fact, images: int) -> str:
    return f" in the {ORDINALS[fact.image]} image" if images > 1 else ""
