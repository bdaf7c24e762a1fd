"""The world of bars: scenes, their pixels, questions about them and the exact answers.

Not the captions (`racro.embedded.sentences`) and not the training examples (`racro.embedded.examples`). Called by
`racro.data.problems`, which turns a BarProblem into a Problem with image files, and by the rebuild of the models.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from PIL import Image, ImageDraw

from racro.prompts import IMAGE_TAG
from racro.schema import AnswerKind

Split = Literal["train", "heldout"]
Category = Literal["value", "sum", "difference", "choice", "word", "two_images"]

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 200, 40),
    "purple": (150, 60, 180),
    "orange": (245, 140, 30),
}
BARS = 4
MAX_HEIGHT = 8
CATEGORIES: tuple[Category, ...] = ("value", "sum", "difference", "choice", "word", "two_images")
KINDS: dict[Category, AnswerKind] = {
    "value": "integer",
    "sum": "integer",
    "difference": "integer",
    "choice": "choice",
    "word": "text",
    "two_images": "integer",
}
HELDOUT_ONE_IN = 8
"""One in this many scenes is held out; no training problem ever shows it."""

CELL = 28
"""Width and height of a bar's cell in pixels: patch 14 x merge 2, so each bar is exactly one token of Qwen2.5-VL."""
BAR_LEFT, BAR_RIGHT, UNIT = 6, 21, 3


class Bar(NamedTuple):
    """One bar of an image: its colour and its height, 1 to MAX_HEIGHT."""

    colour: str
    height: int


Scene = tuple[Bar, ...]
"""The bars of one image from left to right; no colour occurs twice."""


class Fact(NamedTuple):
    """The height of one bar in one image. `image` counts from 0."""

    image: int
    colour: str
    height: int


@dataclass(frozen=True)
class BarProblem:
    """One question about one or two scenes, with everything that a Problem needs except image files."""

    uid: str
    category: Category
    question: str
    answer: str
    choices: tuple[str, ...]
    scenes: tuple[Scene, ...]
    asked: tuple[Fact, ...]
    """The facts that a caption must state to make the question answerable."""

    @property
    def kind(self) -> AnswerKind:
        """How the answer is compared."""
        return KINDS[self.category]

    @property
    def facts(self) -> tuple[Fact, ...]:
        """All facts: every bar of every image."""
        return tuple(Fact(i, bar.colour, bar.height) for i, scene in enumerate(self.scenes) for bar in scene)

    def images(self) -> list[Image.Image]:
        """The scenes as images."""
        return [render(scene) for scene in self.scenes]

    def scene_json(self) -> str:
        """The scenes and the facts asked for, as `racro.embedded.oracle.inspect` needs them."""
        return json.dumps({"images": self.scenes, "asked": self.asked})


def generate(split: Split, seed: int, count: int) -> Iterator[BarProblem]:
    """`count` problems. Problem i depends only on (split, seed, i): a larger count extends a smaller one."""
    return (problem(split, seed, i) for i in range(count))


def problem(split: Split, seed: int, index: int) -> BarProblem:
    """The problem at one index of a split."""
    uid = f"bars-{split}-{seed}-{index}"
    rng = random.Random(uid)
    category = rng.choice(CATEGORIES)
    scenes = tuple(scene_of(split, rng) for _ in range(2 if category == "two_images" else 1))
    asked: tuple[Fact, ...]
    if category == "value":
        asked = (pick(rng, 0, scenes[0]),)
    elif category == "two_images":
        asked = (pick(rng, 0, scenes[0]), pick(rng, 1, scenes[1]))
    else:
        first, second = rng.sample(scenes[0], 2)
        while category == "word" and first.height == second.height:
            # The answer names the taller bar, so the heights must differ; in a scene of four equal bars they never do.
            scenes = (scene_of(split, rng),)
            first, second = rng.sample(scenes[0], 2)
        asked = (Fact(0, *first), Fact(0, *second))
    choices = (*(fact.colour for fact in asked), "equal") if category == "choice" else ()
    return BarProblem(uid, category, ask(category, asked), solve(category, asked), choices, scenes, asked)


def pick(rng: random.Random, image: int, scene: Scene) -> Fact:
    """A random bar of one image."""
    return Fact(image, *rng.choice(scene))


def scene_of(split: Split, rng: random.Random) -> Scene:
    """A random scene of the split, by rejection."""
    while True:
        colours = rng.sample(list(COLOURS), BARS)
        scene = tuple(Bar(colour, rng.randint(1, MAX_HEIGHT)) for colour in colours)
        if split_of(scene) == split:
            return scene


def split_of(scene: Scene) -> Split:
    """The split of a scene, by a hash of its content, so that the two splits share none."""
    hashed = hashlib.sha256(json.dumps(scene).encode()).digest()
    return "heldout" if int.from_bytes(hashed[:8], "big") % HELDOUT_ONE_IN == 0 else "train"


def ask(category: Category, asked: tuple[Fact, ...]) -> str:
    """The question's text, with one `<image>` placeholder per image if there are two."""
    names = [fact.colour for fact in asked]
    match category:
        case "value":
            return f"What is the height of the {names[0]} bar?"
        case "sum":
            return f"What is the sum of the {names[0]} bar and the {names[1]} bar?"
        case "difference":
            return f"What is the difference between the {names[0]} bar and the {names[1]} bar?"
        case "choice":
            return f"Which bar is taller?\nA. {names[0]}\nB. {names[1]}\nC. equal"
        case "word":
            return f"Which bar is taller, the {names[0]} bar or the {names[1]} bar?"
        case "two_images":
            return (
                f"{IMAGE_TAG}{IMAGE_TAG} What is the sum of the {names[0]} bar in the first image "
                f"and the {names[1]} bar in the second image?"
            )


def solve(category: Category, asked: tuple[Fact, ...]) -> str:
    """The exact answer: a number, a choice letter, or the colour of the taller bar."""
    first, second = asked[0], asked[-1]
    match category:
        case "value":
            return str(first.height)
        case "sum" | "two_images":
            return str(first.height + second.height)
        case "difference":
            return str(abs(first.height - second.height))
        case "choice":
            return "A" if first.height > second.height else "B" if first.height < second.height else "C"
        case "word":
            return first.colour if first.height > second.height else second.colour


def render(scene: Scene) -> Image.Image:
    """The image of a scene: 112 x 28 pixels, one CELL per bar, white background."""
    image = Image.new("RGB", (CELL * len(scene), CELL), "white")
    draw = ImageDraw.Draw(image)
    for i, bar in enumerate(scene):
        top = CELL - 1 - UNIT * bar.height
        draw.rectangle((i * CELL + BAR_LEFT, top, i * CELL + BAR_RIGHT, CELL - 1), fill=COLOURS[bar.colour])
    return image
