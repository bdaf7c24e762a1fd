"""The commands of `racro`, in the order of its help."""

from __future__ import annotations

import typer

from flows.cli import answering, exporting, machine, measuring, training

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
embedded = typer.Typer(no_args_is_help=True, help="The embedded world and its two tiny models.")
app.add_typer(embedded, name="embedded")


@app.callback()
def _racro() -> None:
    """Caption-reward optimisation: train the captioner, swap the reasoner."""


app.command()(training.train)
app.command()(training.sweep)
app.command()(measuring.evaluate)
app.command()(measuring.compare)
app.command(help=answering.HELP)(measuring.answer)
app.command()(measuring.grade)
app.command()(exporting.export)
app.command()(machine.doctor)
app.command()(machine.ui)
app.command()(machine.up)
app.command()(machine.register)
app.command()(training.prune)
app.command()(machine.down)
embedded.command()(training.rebuild)
