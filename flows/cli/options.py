"""Options and arguments that several commands of `racro` share."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.station import servers

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe by name, or a YAML file by path.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override a key.")]
Root = Annotated[str, typer.Option("--root", metavar="URI", help="Folder or URI for runs and artifacts.")]
Run = Annotated[str | None, typer.Option("--run", metavar="NAME", help="Name of the run.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Silence = Annotated[
    int,
    typer.Option(
        min=servers.SHORTEST_SILENCE,
        metavar="SECONDS",
        help="Without a sign of life for so long, a server is started again and a flow run has crashed.",
    ),
]
