"""What a command does around a flow: settle the machine, start a Prefect server, show progress, end in order."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flows import interruption
from flows.saying import say
from flows.station import local, tracking
from racro import imports
from racro.config import Recipe, loading
from racro.engines.opening import runs_outside
from racro.errors import BadInput
from racro.models import devices
from racro.storage import layout

if TYPE_CHECKING:
    from racro.storage.runs import Kind


def load(recipe: str, overrides: list[str] | None) -> Recipe:
    """The recipe, if this machine has the devices that it names. Raises BadRecipe, NoDevice."""
    loaded = loading.load(recipe, overrides or [])
    devices.require(loaded)
    return loaded


def settle() -> Path:
    """Set the environment for Prefect, MLflow and Hugging Face, before they are imported. Returns the home."""
    if not sys.stdout.isatty():
        os.environ.setdefault("PREFECT_LOGGING_COLORS", "false")
    else:  # bars instead of log lines; the lines are in the Prefect UI
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")
    return local.settle()


def require_people(option: str) -> None:
    """Raises BadInput if the command would start a server of its own, which nobody else knows."""
    settle()
    if "PREFECT_API_URL" not in os.environ:
        raise BadInput(
            f"{option}: people answer in Prefect's UI, and no server runs that they could open; `racro up` first, or "
            "set PREFECT_API_URL"
        )


def require_name(run: str | None, kind: Kind, recipe: Recipe, root: str) -> None:
    """Raises BadName for a name that cannot be a folder, NameTaken for one of another run, before anything starts.

    On a store elsewhere the flow looks who has the name: an answer from there may take as long as a server.
    """
    if run is None:
        return
    from racro.identity import recipe_digest
    from racro.storage import runs

    layout.named(root, run)
    if "://" not in root:
        runs.require(layout.absolute(root), run, runs.Owner(kind=kind, recipe=recipe_digest(recipe)))


ENGINE = ("torch", "transformers", "racro.engines.local.transformers")
TRAINER = ("torch.distributed.checkpoint", "peft", "racro.training.trainer")
"""What takes seconds to import, in the order in which it imports each other."""


def libraries(recipe: Recipe, trains: bool = False) -> tuple[str, ...]:
    """Modules that this process will compute with: of engines that run in it, and of the trainer."""
    here = [
        model.engine.type == "transformers" and not runs_outside(model, recipe.runtime, role)
        for role, model in (("captioner", recipe.captioner), ("reasoner", recipe.reasoner))
    ]
    trainer = trains and recipe.runtime.trainer.inline and recipe.runtime.cluster.type == "local"
    return (*(ENGINE if any(here) or trainer else ()), *(TRAINER if trainer else ()))


@contextlib.contextmanager
def server(module: str, libraries: Sequence[str] = ()) -> Iterator[None]:
    """A settled machine with a Prefect server: the station's, or one that ends with the context.

    Says what is being started, because it takes seconds until the flow speaks for itself. Meanwhile it imports the
    module of the flow, and then `libraries`, as many as it has time for: the stages that need them begin sooner.
    """
    home = settle()
    own = "PREFECT_API_URL" not in os.environ
    where = f"starting a Prefect server (log: {home}/prefect/server.log)" if own else "connecting to the Prefect server"
    say(f"{where}, then the flow")
    tracking.require()
    waiting = [partial(_import, name) for name in libraries]
    with local.prefect_server(home, meanwhile=partial(_import, module), waiting=waiting):
        if own:
            _hide_addresses_that_end_with_the_command()
        yield


def _import(module: str) -> None:
    with imports.quick():
        importlib.import_module(module)


@contextlib.contextmanager
def flow(bars: bool = True) -> Iterator[None]:
    """Around a flow: progress bars, no tracebacks of bad input, and an interruption ends it in order.

    bars: False if standard output is for a program.
    """
    from flows.cli import terminal

    _hide_tracebacks_of_bad_input()
    with terminal.progress_bars() if bars else contextlib.nullcontext(), interruption.orderly():
        yield


def _hide_tracebacks_of_bad_input() -> None:
    """`flows.cli.main` says in one line what to change; where it was found is in the Prefect UI."""
    _show_only(lambda record: not (record.exc_info and isinstance(record.exc_info[1], BadInput)))


def _hide_addresses_that_end_with_the_command() -> None:
    """Prefect prints the run's page; nobody can open it when the command and its server have ended."""
    from prefect.logging.configuration import ensure_logging_setup

    ensure_logging_setup()  # the console's handler must be there to be filtered
    _show_only(lambda record: not record.getMessage().startswith("View at "))


def _show_only(wanted: Callable[[logging.LogRecord], bool]) -> None:
    for handler in logging.getLogger().handlers:  # Prefect's console is a handler of the root logger
        handler.addFilter(wanted)
