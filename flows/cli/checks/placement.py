"""What does a recipe's training need of each GPU, and can its models be used? For `racro doctor RECIPE`.

Computed in `racro.models.memory` and `racro.models.colocation`, which also refuse a training. Nothing is downloaded:
without a model's config.json there is no number.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.cli.checks.finding import GIB, Finding, State
from racro.config import JUDGES, Captioner, ModelSection, Recipe
from racro.errors import BadInput
from racro.models import colocation, compatibility, devices, sizes
from racro.models.colocation import Held, Placed
from racro.models.folders import LOADABLE
from racro.models.pixels import UNLIMITED
from racro.processes.gpus import Memory, cpu_build, memories, visible
from racro.rewards import places

WIDTH = 100
"""Columns of the table if the output is no terminal."""


@dataclass(frozen=True)
class Plan:
    """Who is on which GPU, the GPUs of this machine, and whether it fits."""

    placed: Placed
    there: dict[int, Memory]
    finding: Finding

    def figures(self) -> dict[str, Any]:
        """The table's numbers, in GiB."""
        need = self.placed.trainer
        return {
            "gpus": [
                {
                    "gpu": gpu,
                    "total": self._total(gpu) and gib(self._total(gpu)),
                    "peak": gib(self.placed.peak(gpu, self._total(gpu))),
                    "turns": {
                        turn: {held.who: gib(held.bytes(self._total(gpu))) for held in awake}
                        for turn, awake in self.placed.turns(gpu).items()
                    },
                }
                for gpu in self.placed.gpus
            ],
            "trainer": {name: gib(size) for name, size in need.parts.items()} if need else None,
        }

    def show(self) -> None:
        """Print it."""
        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = WIDTH
        if self.placed.held:
            console.print(self._table())
        if need := self.placed.trainer:
            parts = ", ".join(f"{name} {gib(size)}" for name, size in need.parts.items() if gib(size))
            console.print(f"Trainer, GiB on each of its GPUs: {parts}\n", soft_wrap=True)

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for name, justify in (("GPU", "right"), ("when", "left"), ("who", "left"), ("GiB", "right"), ("", "left")):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        for gpu in self.placed.gpus:
            total = self._total(gpu)
            label = str(gpu)
            for turn, awake in self.placed.turns(gpu).items():
                when: str = turn
                for held in awake:
                    table.add_row(label, when, held.who, f"{gib(held.bytes(total)):.1f}", _note(held, total))
                    label = when = ""
            peak = self.placed.peak(gpu, total)
            of = f"of {gib(total):.1f}{', too much' if peak > total else ''}" if total else ""
            table.add_row("", "", "at most, with what sleeps", f"{gib(peak):.1f}", of)
        return table

    def _total(self, gpu: int) -> int | None:
        return self.there[gpu].total if gpu in self.there else None


def plan(recipe: Recipe) -> Plan:
    """The recipe on this machine's GPUs, or on as many as it names if there are none."""
    there = memories()
    numbers = visible(list(there)) if there else devices.GPUS
    placed = colocation.placed(recipe, numbers, vllm=not there or not cpu_build())
    return Plan(placed, there, _finding(recipe, placed, there))


def overlap(recipe: Recipe) -> dict[str, Finding]:
    """With `rollout.lag`: are captions made while the update runs? Of the first stage of the training where not."""
    lagged = [phase for phase in recipe.phases if phase.rollout.lag]
    if not lagged:
        return {}
    reason = next(filter(None, map(places.hindrance, lagged)), None)
    if reason is None:
        return {"overlap": Finding("ok", "captions of the next iteration are made while the update runs")}
    why, _, remedy = reason.partition("; ")
    return {"overlap": Finding("note", f"update and captions run one after the other, because {why}", remedy)}


def models(recipe: Recipe) -> dict[str, Finding]:
    """Can the models that are on this machine be what the recipe makes of them? Those that are not say nothing."""
    sections: dict[str, ModelSection] = {"captioner": recipe.captioner, "reasoner": recipe.reasoner}
    sections |= {f"{JUDGES}{name}": recipe.judges[name] for name in recipe.judged()}
    found = {}
    for role, section in sections.items():
        folder = sizes.config_folder(section)
        if section.engine.type == "scripted" or folder is None or not _has_weights(folder):
            continue
        pixels = section.pixels if isinstance(section, Captioner) else UNLIMITED
        try:
            note = compatibility.check(
                role, section.model, folder, section.template_kwargs, pixels, section.reads_images
            )
            if role == "captioner" and section.model != "embedded":
                from racro.training import output_layer  # torch and TRL

                output_layer.require(section.model, folder)
        except BadInput as error:
            found[role] = _divided("problem", str(error))
        else:
            found[role] = Finding("note", note) if note else Finding("ok", section.model)
    return found


def _has_weights(folder: Path) -> bool:
    return any(file.suffix in LOADABLE for file in folder.iterdir())


def gib(size: int | None) -> float:
    """Bytes in GiB, to one digit."""
    return round((size or 0) / GIB, 1)


def _finding(recipe: Recipe, placed: Placed, there: dict[int, Memory]) -> Finding:
    if there:
        try:
            devices.require(recipe)
            devices.require_trainer(recipe.runtime)
            colocation.refuse(recipe, placed, there)
        except BadInput as error:
            return _divided("problem", str(error))
    if placed.unknown:
        found = f"not counted: {' and '.join(placed.unknown)}, whose config.json is not on this machine"
        return Finding("note", found, "a training downloads them; hf download NAME gets one before")
    if not placed.held:
        return Finding("ok", "nothing of it runs on a GPU")
    most = max(gib(placed.peak(gpu, there[gpu].total if gpu in there else None)) for gpu in placed.gpus)
    if not there and placed.gpus == [0] and recipe.runtime.device == "auto":
        return Finding("ok", f"runs on CPUs here; on a GPU up to {most} GiB would be in use")
    if not there:
        numbers = ", ".join(map(str, placed.gpus))
        return Finding("note", f"needs GPU {numbers} with up to {most} GiB in use, and there is none here")
    if lines := colocation.warnings(recipe, placed, there):
        return _divided("note", lines[0])
    return Finding("ok", f"fits, with up to {most} GiB of a GPU in use")


def _divided(state: State, line: str) -> Finding:
    """What is wrong, and the remedy after the first semicolon."""
    found, _, remedy = line.partition("; ")
    return Finding(state, found, remedy)


def _note(held: Held, total: int | None) -> str:
    if held.share is None:
        return ""
    if total is None:
        return f"and {held.share:.0%} of the GPU in all"
    return f"{held.share:.0%} of the GPU, weights {gib(held.certain):.1f}"
