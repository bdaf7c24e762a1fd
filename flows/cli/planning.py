"""The command `racro plan`: what a training, or a sweep, will take, before anything runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows import sweep_plan
from flows.cli.options import Json, Overrides, RecipeName, Root
from flows.saying import say
from racro import imports
from racro.config import Recipe, loading

if TYPE_CHECKING:
    from racro.planning.load import Load
    from racro.planning.split import Found


def plan(
    recipe: RecipeName,
    overrides: Overrides = None,
    root: Root = "runs",
    cluster: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML: nodes and GPUs to divide among the models.")
    ] = None,
    rates: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML: lengths and efficiencies; or gpu.json of a benchmark.")
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0, metavar="MONEY", help="Price of a GPU for an hour.")] = None,
    axis: Annotated[
        list[str] | None, typer.Option("--axis", metavar="PATH=V1,V2", help="Plan a sweep over these values.")
    ] = None,
    random: Annotated[int | None, typer.Option(min=1, metavar="N", help="Of the sweep: draw N points.")] = None,
    optuna: Annotated[int | None, typer.Option(min=1, metavar="N", help="Of the sweep: N points by Optuna.")] = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="S", help="Of the sweep: trainings per point.")] = 1,
    as_json: Json = False,
) -> None:
    """Say what a training will take: what is cached, time, memory, bytes and cost. Starts and downloads nothing."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # before the hub's library is imported: what is not here is not looked for
    loaded = loading.load(recipe, overrides or [])
    from racro.planning import given, measured
    from racro.sweeps.axes import BATCH

    machines = given.cluster(cluster) if cluster else None
    known = given.rates(rates)
    variants = _variants(loaded, axis or [], random, optuna, seeds)
    say(f"looking for what is there already under {root}")
    with imports.quick():
        from flows.rehearsal import rehearse
    from flows.cli import plan_page
    from racro.planning.estimate import Costs
    from racro.storage import layout
    from racro.storage.files import is_local, opened

    place = layout.absolute(root)
    load, found, said = _divided(loaded, machines, known)
    trainings = [rehearse(one, place, told_apart=len(variants) > 1) for one in variants]
    there = measured.read(place)
    made = Costs(there, load, found).estimate(loaded, trainings, not is_local(opened(place)[0]))
    if found is not None and len(variants) > 1:
        said.append("every training of the sweep takes as long as the recipe itself")
    if optuna and optuna > BATCH:
        said.append(f"of Optuna's points the first {BATCH} are known; the others depend on what these reach")
    if found is None:
        said.append("times are those of earlier stages with the same models on this root, as if by the same machine")
    memory, gpus = _memory(loaded, load, found, machines)
    made = made.priced(gpus, rate)
    assumptions = (*made.assumptions, *said)
    made = made.model_copy(update={"assumptions": assumptions})
    if as_json:
        content = {"recipe": recipe, "root": root, **made.model_dump(), "memory": memory, "split": _split(found)}
        print(json.dumps(content, indent=1, ensure_ascii=False))
    else:
        plan_page.show(made, memory, _split(found), recipe, root, rate)


def _variants(recipe: Recipe, axes: list[str], drawn: int | None, proposed: int | None, seeds: int) -> list[Recipe]:
    """The recipes of the trainings: the one, or all of a sweep. Raises BadAxis, BadRecipe."""
    points = [recipe]
    if axes or drawn or proposed:
        sweep = sweep_plan.planned(axes, drawn, proposed, seeds, 1, stop_hopeless=False)
        parsed = sweep_plan.check(recipe, sweep)
        points = [one for _, one in sweep_plan.distinct(recipe, parsed, sweep_plan.expected(parsed, sweep, recipe))]
    return [one.model_copy(update={"seed": one.seed + more}) for one in points for more in range(seeds)]


def _divided(recipe: Recipe, machines: Any, rates: Any) -> tuple[Load | None, Found | None, list[str]]:
    """The work and its best division among the machines, with what was taken for granted. Raises Uncounted, NoSplit."""
    if machines is None:
        return None, None, []
    from racro.planning.load import load
    from racro.planning.split import Search

    work, said = load(recipe, rates)
    return work, Search(work, machines, rates).best(), [_machines(machines), *said]


def _machines(gpus: Any) -> str:
    return (
        f"{gpus.nodes} nodes of {gpus.gpus} GPUs with {gpus.bytes / 1e9:.0f} GB, {gpus.flops / 1e12:.0f} TFLOP/s, "
        f"{gpus.reads / 1e9:,.0f} GB/s; {gpus.between(1) / 1e9:.0f} GB/s between GPUs of a node, {gpus.network:g} GB/s "
        f"to another node, {gpus.storage:g} GB/s to the root; each role has its own GPUs"
    )


def _split(found: Found | None) -> dict[str, Any] | None:
    if found is None:
        return None
    seconds = found.run.seconds
    return {
        "gpus": found.split.gpus,
        "gpus_of_a_copy": found.split.parallel,
        "busy": {role: round(busy / seconds, 3) for role, busy in found.run.busy.items()},
        "seconds": round(seconds, 1),
    }


def _memory(recipe: Recipe, load: Load | None, found: Found | None, machines: Any) -> tuple[dict[str, Any], int | None]:
    """GB of each role's GPUs, or the table of `racro doctor`; and the number of GPUs."""
    if load is not None and found is not None:
        engines = {
            role: {
                "weights": model.parameters * model.bytes / found.split.parallel[role] / 1e9,
                "reserved": recipe.runtime.place(role).gpu_memory * machines.bytes / 1e9,
            }
            for role, model in load.models.items()
        }
        roles: dict[str, Any] = {"trainer": {"likely": load.trainer(found.split.trainer) / 1e9}, **engines}
        return {"roles": roles, "of": machines.bytes / 1e9}, machines.count
    from racro.models import devices
    from racro.processes.gpus import memories

    if recipe.runtime.cluster.type == "ray" and recipe.runtime.device != "cpu":
        reserved = _reserved(recipe)
        note = f"{reserved} GPUs of the cluster, one or more for each copy; --cluster FILE says what they hold"
        return {"note": note}, reserved
    named = recipe.runtime.trainer.gpus or recipe.runtime.device.startswith("cuda")
    if not memories() and not named:
        return {"note": "no GPU is here and the recipe names none: it runs on CPUs"}, None
    from flows.cli.checks import placement

    placed = placement.plan(recipe)
    count = len(placed.placed.gpus) if devices.has_cuda() or named else None
    return {**placed.figures(), "note": placed.finding.found}, count


def _reserved(recipe: Recipe) -> int:
    """GPUs that copies of engines and processes of the trainer reserve on a cluster that has some."""
    engines = {"captioner": recipe.captioner.engine.type, "reasoner": recipe.reasoner.engine.type}
    engines |= {f"judges.{name}": judge.engine.type for name, judge in recipe.judges.items()}
    places = [recipe.runtime.place(role) for role, engine in engines.items() if engine in ("vllm", "transformers")]
    return recipe.runtime.trainer.world + sum(place.data_parallel * place.tensor_parallel for place in places)
