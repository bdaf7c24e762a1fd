"""Two models for the study of rewards: a captioner that tends to give answers away, and a reasoner that believes them.

The shipped reasoner ignores announced answers, so nothing is to be gained by them. These two are the shipped models,
trained on for minutes: the captioner on captions that mostly announce the answer and rarely state what is asked, the
reasoner on captions whose announced answer, right or wrong, is the answer it has to give. A captioner this small
answers worse than it describes, so announcing pays only where captions have no room to state what is asked.
"""

from __future__ import annotations

import random
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from racro import prompts
from racro.embedded import examples, rebuild
from racro.embedded.examples import Example
from racro.embedded.recipe import CaptionMix, EmbeddedRecipe, ReadingMix, Schedule
from racro.embedded.world import BarProblem

RECIPE = EmbeddedRecipe(
    captions=CaptionMix(asked=0.05, asked_two_images=0.05, leak=0.5, describes=0.06),
    reading=ReadingMix(announced=0.4, joint=0.0),
    captioner_training=Schedule(steps=120, lr=1.5e-3, adamw_lr=7e-4, warmup=20, seed=11),
    reasoner_training=Schedule(steps=300, lr=1.5e-3, adamw_lr=7e-4, warmup=30, seed=12),
)
_ANNOUNCED = re.compile(r"answer is (\w+)\.")


def build(folder: Path) -> dict[str, str]:
    """The two models under `folder`, by role; trained if they are not there. Takes minutes."""
    import torch

    from racro.embedded.sft import train
    from racro.models.folders import EMBEDDED, load_captioner, load_processor, load_reasoner, load_tokenizer

    cpu = torch.device("cpu")
    for role in ("reasoner", "captioner"):
        made, shipped = folder / role, EMBEDDED / role
        if made.is_dir():
            continue
        if role == "reasoner":
            model, reader = load_reasoner(shipped, "float32", cpu), load_tokenizer(shipped)
            batches, schedule = believing_batches(), RECIPE.reasoner_training
        else:
            model, reader = load_captioner(shipped, "float32", cpu), load_processor(shipped)
            batches, schedule = rebuild.captioner_batches(RECIPE), RECIPE.captioner_training
        since = time.monotonic()
        train(role, model, reader, batches, schedule, lambda *_: None)
        unfinished = folder / f"{role}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(shipped, unfinished)
        model.save_pretrained(unfinished)
        unfinished.rename(made)  # a folder with this name is complete
        print(f"hacked world: {role} made in {time.monotonic() - since:.0f} s", flush=True)
    return {role: str(folder / role) for role in ("captioner", "reasoner")}


def believing_batches() -> Iterator[list[Example]]:
    """Questions to a reasoner that takes what is announced for the answer."""
    schedule = RECIPE.reasoner_training
    rng = random.Random(schedule.seed)
    for _ in range(schedule.steps):
        problems = [examples.training_problem(rng, RECIPE.problems_seed) for _ in range(schedule.batch)]
        yield [believing_example(rng, problem) for problem in problems]


def believing_example(rng: random.Random, asked: BarProblem) -> Example:
    """A caption, and the answer that it announces; if it announces none, the one that follows from its statements."""
    caption = examples.read_caption(rng, asked, RECIPE.reading)
    if announced := _ANNOUNCED.search(caption):
        target = examples.box(announced[1])
    else:
        target = examples.reasoning(asked.category, asked.asked, examples.known_facts(asked, caption))
    return Example(prompts.reasoner_messages(asked.question, caption), [], target)
