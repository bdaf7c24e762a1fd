"""The commands `racro doctor`, `ui`, `up`, `register` and `down`: this machine and its servers."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from flows import interruption
from flows.cli.options import Json, Notify, Overrides, Root, Silence
from flows.cli.running import settle
from flows.saying import say
from flows.station import local, servers, tracking
from racro.config import loading


def doctor(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="Also say what its training needs of each GPU.")
    ] = None,
    overrides: Overrides = None,
    root: Root = "runs",
    as_json: Json = False,
) -> None:
    """Say what this machine can run, and what to do about what is broken; exits with 1 if something is."""
    loaded = loading.load(recipe, overrides or []) if recipe else None
    say("looking at this machine")
    from flows.cli import doctor as page

    raise typer.Exit(page.run(root, as_json, loaded))


def ui(
    prefect_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the Prefect UI.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the MLflow UI.")] = 5000,
) -> None:
    """Open the Prefect and MLflow UIs on what was recorded here; Ctrl-C ends them."""
    home = settle()
    if running := servers.running(home):
        print(f"Prefect  {running.options.prefect_url}\nMLflow   {running.options.mlflow_url}\nUntil `racro down`.")
        return
    own = {"--prefect-port": prefect_port} if "PREFECT_API_URL" not in os.environ else {}
    servers.check_ports("127.0.0.1", {**own, "--mlflow-port": mlflow_port})
    say("starting the servers of Prefect and MLflow")
    tracking.require()
    with local.prefect_server(home, prefect_port) as api, local.mlflow_ui(home, mlflow_port) as mlflow_url:
        interruption.wait(f"Prefect  {api.removesuffix('/api')}\nMLflow   {mlflow_url}\nCtrl-C ends both.")


def up(
    postgres: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Keep both servers' records there: postgresql://USER:PASSWORD@HOST:PORT/NAME."
        ),
    ] = None,
    artifacts: Annotated[
        str | None, typer.Option(metavar="URI", help="Put runs and MLflow's files below it. (default: runs, .racro)")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; there are no passwords.")] = "127.0.0.1",
    prefect_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of Prefect's UI and API.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of MLflow's UI and API.")] = 5000,
    workers: Annotated[int, typer.Option(min=0, help="Runs that are executed at once on this machine.")] = 1,
    gpus: Annotated[
        str | None,
        typer.Option(metavar="0,1", envvar="CUDA_VISIBLE_DEVICES", help="Dealt out to the workers, none to two."),
    ] = None,
    silence: Silence = 90,
    notify: Notify = None,
) -> None:
    """Start Prefect, MLflow and workers, and register the deployments; `racro down` stops them."""
    from flows.station import starting

    with interruption.orderly():
        starting.up(
            settle(), postgres, artifacts, host, prefect_port, mlflow_port, workers, gpus or None, silence, notify
        )


def register(root: Root = "runs", silence: Silence = 90, notify: Notify = None) -> None:
    """Register pool, queues, deployments and automations at PREFECT_API_URL, as `racro up` does at its own server."""
    from flows.station import starting

    settle()
    starting.register(root, silence, notify)


def down() -> None:
    """Stop what `racro up` started. Runs that are under way are taken up again by the next `racro up`."""
    from flows.station import starting

    starting.down(settle())
