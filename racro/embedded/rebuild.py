"""Rebuild the embedded models from nothing: tokenizer, captioner, reasoner, and the record of the recipe.

Called by the flow `rebuild` (`racro embedded rebuild`). The folder `models/` was written by it.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

import torch

from racro.embedded import examples
from racro.embedded.architectures import image_processor, untrained_captioner, untrained_reasoner
from racro.embedded.examples import Example
from racro.embedded.recipe import EmbeddedRecipe
from racro.embedded.sft import Progress, train
from racro.embedded.tokenizer import build_tokenizer
from racro.models.folders import load_processor, load_reasoner, load_tokenizer

RECIPE_FILE = "recipe.json"
DIGESTED = 400
"""Number of examples of each kind that the digest covers: enough to contain every variety."""


def rebuild_reasoner(out: Path, recipe: EmbeddedRecipe, progress: Progress) -> None:
    """Write `out/reasoner`: tokenizer, then weights trained from nothing. About five minutes on two cores.

    Two rebuilds differ by rounding, which training amplifies: equally good, but not equal bit for bit.
    """
    tokenizer = build_tokenizer(recipe)
    torch.manual_seed(recipe.reasoner_training.seed)
    reasoner = untrained_reasoner(recipe, tokenizer)
    train("reasoner", reasoner, tokenizer, reasoner_batches(recipe), recipe.reasoner_training, progress)
    reasoner.save_pretrained(out / "reasoner")
    tokenizer.save_pretrained(out / "reasoner")


def rebuild_captioner(out: Path, recipe: EmbeddedRecipe, progress: Progress) -> None:
    """Write `out/captioner`, whose decoder starts from `out/reasoner`. Takes about nine minutes on two cores."""
    tokenizer = load_tokenizer(out / "reasoner")
    reasoner = load_reasoner(out / "reasoner", "float32", torch.device("cpu"))
    torch.manual_seed(recipe.captioner_training.seed)
    captioner = untrained_captioner(recipe, tokenizer, reasoner)
    for part in (captioner, tokenizer, image_processor()):
        part.save_pretrained(out / "captioner")
    # The processor is loaded, not built, so that training sees the same tokens and pixels as every user.
    processor = load_processor(out / "captioner")
    train("captioner", captioner, processor, captioner_batches(recipe), recipe.captioner_training, progress)
    captioner.save_pretrained(out / "captioner")


def write_recipe(out: Path, recipe: EmbeddedRecipe) -> None:
    """Write `out/recipe.json`, the last file: the recipe by which the two models were made."""
    record = {"digest": recipe_digest(recipe), "recipe": recipe.model_dump(), "torch": torch.__version__}
    (out / RECIPE_FILE).write_text(json.dumps(record, indent=2) + "\n")


def captioner_batches(recipe: EmbeddedRecipe) -> Iterator[list[Example]]:
    """Captions, attempts at answers, and sometimes RAPID's yes/no question."""
    schedule = recipe.captioner_training
    rng = random.Random(schedule.seed)
    for step in range(schedule.steps):
        dense = recipe.captions.dense if step < recipe.captions.dense_until * schedule.steps else 0.0
        yield [captioner_example(rng, recipe, dense) for _ in range(schedule.batch)]


def captioner_example(rng: random.Random, recipe: EmbeddedRecipe, dense: float) -> Example:
    """One example of the captioner's mix."""
    mix = recipe.captions
    problem = examples.training_problem(rng, recipe.problems_seed)
    draw = rng.random()
    if draw < mix.describes:
        return examples.describes_example(rng, problem, mix)
    if draw < mix.describes + mix.tentative:
        return examples.attempt_example(problem)
    return examples.caption_example(rng, problem, mix, dense)


def reasoner_batches(recipe: EmbeddedRecipe) -> Iterator[list[Example]]:
    """Answers from a caption only, and some from caption and attempt."""
    schedule = recipe.reasoner_training
    rng = random.Random(schedule.seed)
    for step in range(schedule.steps):
        if step < recipe.reading.drill * schedule.steps:
            yield [examples.drill_example(rng) for _ in range(2 * schedule.batch)]  # half as long as the others
        else:
            yield [reasoner_example(rng, recipe) for _ in range(schedule.batch)]


def reasoner_example(rng: random.Random, recipe: EmbeddedRecipe) -> Example:
    """One example of the reasoner's mix."""
    problem = examples.training_problem(rng, recipe.problems_seed)
    if rng.random() < recipe.reading.joint:
        return examples.joint_example(rng, problem, recipe.reading)
    return examples.reading_example(rng, problem, recipe.reading)


def recipe_digest(recipe: EmbeddedRecipe | None = None) -> str:
    """Digest of every number of the recipe and of the first examples that its code draws, including prompts and pixels.

    A change of world, prompts, captions or mix changes the digest; a change of comments does not. Code that turns
    examples into weights (`sft.py`, `architectures.py`, `tokenizer.py`) is covered by the recipe's `version`.
    """
    recipe = recipe or EmbeddedRecipe()
    digest = hashlib.sha256(recipe.model_dump_json().encode())
    rng = random.Random(0)
    for _ in range(DIGESTED):
        for example in (
            captioner_example(rng, recipe, dense=0.0),
            captioner_example(rng, recipe, dense=1.0),
            examples.drill_example(rng),
            reasoner_example(rng, recipe),
        ):
            digest.update(json.dumps([example.messages, example.target]).encode())
            for image in example.images:
                digest.update(image.tobytes())
    return digest.hexdigest()
