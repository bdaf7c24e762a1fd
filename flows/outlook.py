"""What a training says at its start: what is on the root, what will run, how long and how large it will be.

`racro plan` says more, before anything starts.
"""

from __future__ import annotations

from flows.rehearsal import Models, rehearse
from racro.config import Recipe
from racro.models import colocation
from racro.pace import duration
from racro.planning import measured
from racro.planning.estimate import Costs, Plan
from racro.processes.gpus import GIB, cpu_build, memories, visible
from racro.storage.files import is_local, opened

SAMPLE = 50
"""Artifacts of each stage that are read, at most."""


def outlook(recipe: Recipe, root: str, models: Models) -> list[str]:
    """A few lines for people. Of a root elsewhere only the memory: each record would be a request to its store."""
    if not is_local(opened(root)[0]):
        return _memory(recipe)
    plan = Costs(measured.read(root, SAMPLE)).estimate(recipe, [rehearse(recipe, root, models)], remote=False)
    return [*lines(plan), *_memory(recipe)]


def lines(plan: Plan) -> list[str]:
    """The plan in short."""
    cached = sum(part.cached for part in plan.parts)
    runs = ", ".join(f"{part.name} {part.runs}" for part in plan.parts if part.runs)
    if plan.nothing:
        return [f"all {cached} stages are done already, and nothing will run"]
    found = [f"{cached} stages are done already; to run: {runs}"]
    size = "" if plan.bytes is None else f"; {plan.bytes / 1e6:,.1f} MB will be written"
    if plan.seconds is not None:
        found.append(f"about {duration(plan.seconds)}, by the records of this root{size}")
    else:
        missing = ", ".join(part.name for part in plan.parts if part.seconds is None)
        found.append(f"how long is not known: this root has no records of {missing} like these{size}")
    return found


def _memory(recipe: Recipe) -> list[str]:
    there = memories()
    if not there or recipe.runtime.cluster.type != "local":
        return []
    placed = colocation.placed(recipe, visible(list(there)), vllm=not cpu_build())
    peaks = [f"GPU {gpu}: {placed.peak(gpu, there[gpu].total) / GIB:.0f} GiB" for gpu in placed.gpus if gpu in there]
    return [f"memory at most, estimated: {', '.join(peaks)}"] if peaks else []
