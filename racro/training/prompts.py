"""The trainer's own encoding of problems' prompts, and its comparison with the ids that the engine saw.

Not the engine's: both call `racro.models.encoding`, and whatever tokenizer, template or image size differs between the
two shows in the comparison. Used by `racro.training.parity` and `racro.training.replay`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from racro.config import Objective
from racro.data.images import open_image
from racro.models.chat_template import ChatTemplate
from racro.models.encoding import Inputs, Takes, encode
from racro.prompts import WRITING
from racro.schema import Problem


class PromptEncoder:
    """Processor, chat template and the inputs that a model takes, for the prompts of a problem table."""

    def __init__(
        self,
        processor: Any,
        model: Any,
        images_base: str,
        template_kwargs: Mapping[str, Any],
        objective: Objective = "caption",
    ) -> None:
        """`model`: the model itself, without wrappers of PEFT or accelerate. `images_base`: folder of the table.

        `objective`: what the prompts ask for.
        """
        self.messages = WRITING[objective]
        self.processor, self.images_base, self.takes = processor, images_base, Takes.of(model)
        self.decoded = 0
        """How many images have been decoded so far."""
        self.opened: dict[str, list[Image.Image]] = {}
        """Images of the last call, by problem."""
        self.template = ChatTemplate("the captioner", processor.tokenizer, processor, template_kwargs)

    def encode(self, problems: Sequence[Problem]) -> Inputs:
        """Inputs of the prompts, padded left. Images are decoded here, once each, and kept for the next call only."""
        opened: dict[str, list[Image.Image]] = {}
        for problem in problems:
            if problem.uid in opened:
                continue
            opened[problem.uid] = self.opened.get(problem.uid) or self._decoded(problem)
        self.opened = opened
        images = [opened[problem.uid] for problem in problems]
        messages = [self.messages(problem.question, len(problem.images)) for problem in problems]
        texts = [self.template.fill(said, len(own)) for said, own in zip(messages, images, strict=True)]
        return encode(self.processor, self.processor.tokenizer, texts, images, self.takes)

    def _decoded(self, problem: Problem) -> list[Image.Image]:
        self.decoded += len(problem.images)
        return [open_image(ref, self.images_base) for ref in problem.images]


def prompt_ids(inputs: Inputs) -> list[list[int]]:
    """The ids of encoded prompts, padding left out."""
    masks = inputs["attention_mask"].bool()
    return [row[mask].tolist() for row, mask in zip(inputs["input_ids"], masks, strict=True)]


def first_difference(ours: Sequence[int], theirs: Sequence[int]) -> str | None:
    """Where the trainer's ids (`ours`) and the engine's differ, in words; None if they are equal."""
    if list(ours) == list(theirs):
        return None
    differing = (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
    place = next(differing, min(len(ours), len(theirs)))
    return f"{len(ours)} ids in the trainer, {len(theirs)} in the engine, first difference at {place}"
