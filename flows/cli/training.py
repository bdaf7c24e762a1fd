"""The commands `racro train`, `profile`, `sweep`, `prune` and `embedded rebuild`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows import sweep_plan
from flows.cli import running
from flows.cli.options import Json, Overrides, RecipeName, Root, Run
from racro import mirrors
from racro.models import colocation
from racro.storage import layout


def train(
    recipe: RecipeName,
    overrides: Overrides = None,
    run: Run = None,
    root: Root = "runs",
    approve: Annotated[
        bool, typer.Option("--approve", help="Ask in Prefect's UI before a better policy becomes champion.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a captioner. What is under ROOT already is not computed again."""
    loaded = running.load(recipe, overrides)
    colocation.require(loaded)
    mirrors.require(loaded)
    running.require_name(run, "training", loaded, root)
    if approve:
        running.require_people("--approve")
    with running.server("flows.training", running.libraries(loaded, trains=True)):
        from flows.cli import terminal
        from flows.training import train as flow
        from racro.identity import recipe_digest

        name = run or f"{Path(recipe).stem}-{recipe_digest(loaded)[:8]}"
        with running.flow(bars=not as_json):
            summary = flow(loaded, run=name, root=root, approve=approve)
        if as_json:
            print(summary.model_dump_json(indent=2))
        else:
            terminal.show_summary(summary, layout.report(root, name))


def profile(
    recipe: RecipeName,
    captions: Annotated[int, typer.Option(min=1, metavar="N", help="Captions of each problem.")] = 4,
    overrides: Overrides = None,
    run: Run = None,
    root: Root = "runs",
) -> None:
    """Measure how often the untrained captioner's captions of each training problem lead to the right answer."""
    loaded = running.load(recipe, overrides)
    running.require_name(run, "profile", loaded, root)
    with running.server("flows.profiling", running.libraries(loaded)):
        from flows.cli import terminal
        from flows.profiling import profile as flow

        with running.flow():
            summary = flow(loaded, captions=captions, run=run, root=root)
        terminal.show_profile(summary)


def sweep(
    recipe: RecipeName,
    axis: Annotated[
        list[str] | None, typer.Option("--axis", metavar="PATH=V1,V2", help="Key with values, or a range 1e-5..1e-3.")
    ] = None,
    random: Annotated[int | None, typer.Option(min=1, metavar="N", help="Draw N points, not all combinations.")] = None,
    optuna: Annotated[int | None, typer.Option(min=1, metavar="N", help="Let Optuna propose N points.")] = None,
    parallel: Annotated[int, typer.Option(min=1, metavar="P", help="Children at once.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, metavar="S", help="Trainings per point.")] = 1,
    stop: Annotated[bool, typer.Option("--stop/--no-stop", help="Stop hopeless children early.")] = True,
    overrides: Overrides = None,
    run: Annotated[str | None, typer.Option("--run", metavar="NAME", help="Name of the sweep.")] = None,
    root: Root = "runs",
) -> None:
    """Train a recipe in many variants and rank them. Failed ones are tried again by the same command."""
    loaded = running.load(recipe, overrides)
    plan = sweep_plan.planned(axis or (), random, optuna, seeds, parallel, stop)
    sweep_plan.check(loaded, plan)
    name = run or f"{Path(recipe).stem}-{sweep_plan.sweep_name(loaded, plan)}"
    sweep_plan.require_room(name)
    running.require_name(run, "sweep", loaded, root)
    with running.server("flows.sweep"):
        from flows.cli import terminal
        from flows.sweep import sweep as flow

        with running.flow():
            summary = flow(loaded, plan, run=name, root=root)
        terminal.show_sweep(summary, layout.report(root, name))
    raise typer.Exit(any(child.status == "failed" for child in summary.children))


def prune(
    root: Root = "runs",
    last: Annotated[int, typer.Option(min=1, metavar="N", help="Keep the last N checkpoints of each training.")] = 2,
    every: Annotated[int, typer.Option(min=0, metavar="M", help="Keep each M-th as well; 0: none.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Remove checkpoints, except champions, the last of each training and what a run under way may need."""
    with running.server("flows.retention"):
        from flows.cli import terminal
        from flows.retention import prune as flow

        with running.flow():
            pruned = flow(root, last, every, dry_run)
        terminal.show_pruned(pruned, dry_run)


def rebuild(
    out: Annotated[Path, typer.Option(help="Folder for the two models; the package's own when not given.")] = Path(),
) -> None:
    """Make the tokenizer and the two tiny models from nothing. Takes about fifteen minutes on two cores."""
    with running.server("flows.rebuilding"):
        from flows.rebuilding import rebuild as flow
        from racro.models.folders import EMBEDDED

        with running.flow():
            flow(EMBEDDED if out == Path() else out)
