"""The commands of `racro`, in the order of its help."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli import answering, exporting, judging, machine, measuring, planning, recipes, runs, serving, training

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
embedded = typer.Typer(no_args_is_help=True, help="The embedded world and its two tiny models.")
app.add_typer(recipes.app, name="recipe")
app.add_typer(runs.app, name="runs")
app.add_typer(embedded, name="embedded")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"racro {version('racro')}")
        raise typer.Exit


@app.callback()
def _racro(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Caption-reward optimisation: train the captioner, swap the reasoner."""


app.command()(planning.plan)
app.command()(training.train)
app.command()(training.profile)
app.command()(training.sweep)
app.command()(measuring.evaluate)
app.command()(measuring.compare)
app.command(help=answering.HELP)(measuring.answer)
app.command()(serving.serve)
app.command()(measuring.grade)
app.command()(judging.judge)
app.command()(exporting.export)
app.command()(machine.doctor)
app.command()(machine.ui)
app.command()(machine.up)
app.command()(machine.down)
app.command()(machine.register)
app.command()(training.prune)
embedded.command()(training.rebuild)
