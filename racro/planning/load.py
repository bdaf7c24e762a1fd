"""What the models of a recipe have to do in an iteration, by their sizes and the lengths of texts.

Counted on configurations; without a model's config.json on this machine there is no number, and that is said.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from racro.config import ModelSection, Recipe, TrainerPlacement
from racro.errors import BadInput
from racro.models import colocation, memory, sizes
from racro.models.folders import base_folder
from racro.models.memory import BYTES, MOMENTS
from racro.planning.given import Lengths, Rates
from racro.planning.roofline import Ask, Model, Update
from racro.rewards import places

REQUESTS = {"answer": 1, "confidence": 1, "self": 1, "describes": 1, "facts": 1, "correctness": 1, "retrieval": 1}
"""Requests of each reward for each caption, to each of the roles that it asks; mcq's are `rounds`."""


class Uncounted(BadInput):
    """A model whose size is not known on this machine."""


@dataclass(frozen=True)
class Phase:
    """A stage of the training, as work of an iteration."""

    iterations: int
    captions: Ask
    rewards: tuple[tuple[str, str, Ask], ...]
    """Titles of rewards, with a role and what it is asked; the first one may answer while captions are written."""
    update: Update
    lag: int


@dataclass(frozen=True)
class Load:
    """A training, as work."""

    recipe: Recipe
    models: dict[str, Model]
    """By role; endpoints of others and scripts are not among them."""
    phases: tuple[Phase, ...]
    describe: Ask
    answer: Ask
    sizes: sizes.Sizes
    lengths: Lengths

    def trainer(self, gpus: int) -> int:
        """Bytes on each of so many GPUs."""
        place = self.recipe.runtime.trainer
        kept = {"tokens": place.tokens, "attention": place.attention, "processes": gpus}
        divided = TrainerPlacement.model_validate(kept | {"shard": "fsdp" if gpus > 1 else "none"})
        runtime = self.recipe.runtime.model_copy(update={"trainer": divided})
        updates = (phase.update for phase in self.recipe.phases)
        return max(memory.trainer(self.sizes, self.recipe.captioner, one, runtime).likely for one in updates)

    @property
    def state(self) -> float:
        """Bytes of the trainer's state."""
        return self.sizes.trained * (4 + MOMENTS[self.recipe.update.optimizer])

    @property
    def weights(self) -> float:
        """Bytes that travel to the engine after an update: all weights, or the adapter's."""
        count = self.sizes.trained if self.sizes.adapted else self.sizes.base
        return count * BYTES[self.recipe.captioner.dtype]


def load(recipe: Recipe, rates: Rates) -> tuple[Load, list[str]]:
    """The work of a recipe, and what was taken for granted. Raises Uncounted."""
    said: list[str] = []
    recipe = _one_reasoner(recipe)
    folders = {role: _folder(role, config) for role, config in recipe.roles.items() if _here(recipe, role)}
    if "captioner" not in folders:
        raise Uncounted("captioner: runs elsewhere, so that its work cannot be divided")
    counted = sizes.captioner(folders["captioner"], recipe.captioner.lora, recipe.update.freeze)
    numbers = {role: counted.base if role == "captioner" else sizes.parameters(one) for role, one in folders.items()}
    models = {role: _model(recipe.roles[role], folder, numbers[role]) for role, folder in folders.items()}
    lengths = _lengths(recipe, rates.lengths, said)
    phases = tuple(_phase(recipe, phase, lengths, rates, counted) for phase in recipe.phases)
    heldout = recipe.evaluation.problems
    describe = Ask(heldout, 1, lengths.prompt, lengths.caption or 1)
    answer = Ask(heldout, 1, lengths.question + (lengths.caption or 1), lengths.answer or 1)
    said.append(
        f"{rates.informative:.0%} of the groups are trained on; the update reaches {rates.train:.0%} of a GPU's matrix "
        f"products, reading prompts {rates.prefill:.0%}, decoding {rates.decode:.0%} of its memory bandwidth"
    )
    said.append("all texts have the average length; tables on the root are not counted, only policies and states")
    if any(phase.rollout.refill for phase in recipe.phases):
        said.append("refills (rollout.refill) are not counted: how many there are depends on the captions")
    if elsewhere := sorted(recipe.roles.keys() - folders.keys()):
        said.append(f"{', '.join(elsewhere)}: at endpoints of others, whose time is not counted")
    return Load(recipe, models, phases, describe, answer, counted, lengths), said


def _one_reasoner(recipe: Recipe) -> Recipe:
    """The recipe with its reasoner's place as the only one: those of other reasoners are for evaluations."""
    runtime = recipe.runtime
    place = runtime.place(runtime.role_of(recipe.reasoner))
    return recipe.model_copy(update={"runtime": runtime.model_copy(update={"reasoner": place, "reasoners": {}})})


def _here(recipe: Recipe, role: str) -> bool:
    return recipe.roles[role].engine.type != "scripted" and not recipe.runtime.place(role).urls


def _folder(role: str, config: ModelSection) -> Path:
    folder = sizes.config_folder(config)
    if folder is None:
        raise Uncounted(
            f"{role}: the config.json of {config.model} is not on this machine, so its size is not known; "
            f"`hf download {config.model} config.json` gets it"
        )
    return folder


def _model(config: ModelSection, folder: Path, parameters: int) -> Model:
    content = json.loads((base_folder(folder) / "config.json").read_text(encoding="utf-8"))
    text: dict[str, Any] = content.get("text_config") or content
    heads = text.get("num_attention_heads") or 1
    wide = text.get("head_dim") or text.get("hidden_size", 0) // heads
    cache = 2 * text.get("num_hidden_layers", 0) * (text.get("num_key_value_heads") or heads) * wide * 2
    few = getattr(config.engine, "quantization", None) is not None or sizes.quantized(folder)
    return Model(parameters, colocation.QUANTIZED if few else BYTES[config.dtype], cache)


def _lengths(recipe: Recipe, given: Lengths, said: list[str]) -> Lengths:
    """With limits in place of what is not given."""
    limits = {
        "caption": max(phase.rollout.max_tokens for phase in recipe.phases),
        "answer": recipe.reasoner.max_tokens,
        "judgement": max((recipe.judges[name].max_tokens or 256 for name in recipe.judged()), default=256),
    }
    missing = {name: limit for name, limit in limits.items() if getattr(given, name) is None}
    found = given.model_copy(update=missing)
    texts = ", ".join(f"{name} {value:,}" for name, value in found.model_dump().items())
    said.append(f"tokens on average: {texts}")
    if upper := [name for name in missing if name != "judgement" or recipe.judged()]:
        said.append(f"{', '.join(upper)}: the recipe's limit, so the time is too long; give lengths in --rates")
    return found


def _phase(recipe: Recipe, phase: Recipe, lengths: Lengths, rates: Rates, counted: sizes.Sizes) -> Phase:
    problems, group = phase.rollout.problems, phase.rollout.group_size
    written = min(lengths.caption or 1, phase.rollout.max_tokens)
    rewards: list[tuple[str, str, Ask]] = []
    for reward in phase.rewards:
        for role in places.asked(phase, reward):
            long = lengths.answer if role == "reasoner" and reward.type == "answer" else lengths.judgement
            requests = getattr(reward, "rounds", None) or REQUESTS[reward.type]
            asks = Ask(problems * group, requests, lengths.question + written, long or 1)
            rewards.append((reward.title, role, asks))
    settings, base = phase.update, counted.base
    passes = 2 + 2 + round(2 * counted.trained / base)
    passes += 2 * (recipe.runtime.gradient_checkpointing + (settings.beta > 0) + 1)  # 1: log-probs before the update
    update = Update(
        parameters=base,
        passes=passes,
        groups=problems * rates.informative,
        step=settings.mini_batch,
        tokens=lengths.prompt + group * written,
        fill=recipe.runtime.trainer.tokens,
    )
    captions = Ask(problems, group, lengths.prompt, written)
    return Phase(phase.iterations, captions, tuple(rewards), update, phase.rollout.lag)
