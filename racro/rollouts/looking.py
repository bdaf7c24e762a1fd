"""What the captioner is asked about images: one request for each look at them, in any words.

Images are opened one look at a time, so that a stage never holds all of them. Called by `racro.rollouts.captioner`, and
by the modes of evaluations and of `racro.answering`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from PIL import Image

from racro.data.images import open_image
from racro.engines.protocol import Engine, Generation, Prompt, Refusal, Request, Sampling
from racro.prompts import Message
from racro.schema import Problem


class Asked(NamedTuple):
    """A question about images that are opened when they are needed."""

    uid: str
    question: str
    images: Callable[[], tuple[Image.Image, ...]]
    """Raises ValueError for an image that cannot be read."""


class Look(NamedTuple):
    """What the captioner is asked about the images of a question."""

    asked: Asked
    messages: Callable[[int], list[Message]]
    """The prompt, by the number of images. Raises ValueError where placeholders do not match it."""
    seed: int = 0


def asked_of(problem: Problem, images_base: str) -> Asked:
    """A problem as a question; `images_base`: the folder of its table."""
    return Asked(problem.uid, problem.question, lambda: tuple(open_image(ref, images_base) for ref in problem.images))


def look(looks: Sequence[Look], engine: Engine, sampling: Sampling) -> Iterator[Generation | Refusal]:
    """The engine's answers, by the index of the look and in any order.

    A look with an image that cannot be read, or with placeholders that do not match the images, is refused here.
    """
    unreadable: list[Refusal] = []

    def requests() -> Iterator[Request]:
        for key, one in enumerate(looks):
            try:
                images = one.asked.images()
                prompt = Prompt(one.messages(len(images)), images)
            except ValueError as error:
                unreadable.append(Refusal(key, str(error)))
            else:
                yield Request(key, prompt, sampling, one.seed)

    yield from chain(engine.generate(requests()), unreadable)
