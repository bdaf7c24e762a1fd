"""The commands `racro runs list`, `show`, `compare`, `rename` and `remove`."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from flows.cli.completion import complete_run
from flows.cli.options import Json, Root
from racro.storage import layout

app = typer.Typer(no_args_is_help=True, help="The runs under a root.")

Name = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run.", autocompletion=complete_run)]
Names = Annotated[list[str], typer.Argument(metavar="RUN...", help="Names of runs.", autocompletion=complete_run)]


@app.command("list")
def listed(
    root: Root = "runs",
    children: Annotated[bool, typer.Option("--all", help="Children of sweeps too.")] = False,
    as_json: Json = False,
) -> None:
    """List runs: kind, recipe, state, iterations, accuracy, when, and the size of what belongs to each."""
    from flows.cli import run_records

    rows = [row for row in run_records.rows(layout.absolute(root)) if children or not row.sweep]
    if as_json:
        print(json.dumps([row._asdict() for row in rows], indent=1, default=str))
        return
    from flows.cli import listing

    listing.show_runs(rows, root)


@app.command()
def show(run: Name, root: Root = "runs", as_json: Json = False) -> None:
    """Show a run: what the list says, its files, and what its recipe sets differently from the defaults."""
    from flows.cli import listing, run_records

    place = layout.absolute(root)
    row = run_records.row(place, run)
    content = run_records.settings(place, run)
    if as_json:
        print(json.dumps(row._asdict() | {"recipe": content}, indent=1, default=str))
    else:
        listing.show_run(row, content, layout.run(root, run))


@app.command()
def compare(runs: Names, root: Root = "runs", as_json: Json = False) -> None:
    """Compare two runs or more: accuracies with their differences to the first one's, and where recipes differ.

    Errors of differences are those of independent measurements. Question by question: `racro compare`, of evaluations.
    """
    from flows.cli import listing, run_records

    found = run_records.compared(layout.absolute(root), runs)
    if as_json:
        print(json.dumps(found._asdict(), indent=1, default=lambda value: value.model_dump()))
    else:
        listing.show_compared(found)


@app.command()
def rename(
    run: Name, new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.")], root: Root = "runs"
) -> None:
    """Give a run that has ended another name; its command goes on under it."""
    from flows.cli import run_records

    layout.named(root, new)  # refused before anything is looked up
    run_records.rename(layout.absolute(root), run, new)
    print(f"{run} is now {new}")


@app.command()
def remove(
    runs: Names,
    root: Root = "runs",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Remove runs, with the policies, captions and answers that no other run needs. A sweep goes with its children.

    What another run uses stays, and so do champions. Prefect and MLflow keep their records.
    """
    from flows.cli import run_records

    removal = run_records.removal(layout.absolute(root), runs)
    for line in removal.lines():
        print(line)
    if dry_run:
        return
    if not yes:
        if not sys.stdin.isatty():
            raise run_records.NoRun("--yes: nobody is here to be asked; give it to remove them")
        typer.confirm("Remove all of this?", abort=True)
    removal.carry_out()
    print(f"removed; {removal.megabytes} are free")
