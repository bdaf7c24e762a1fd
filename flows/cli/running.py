"""What a command does around a flow: settle the machine, start a Prefect server, show progress, end in order."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from flows import interruption
from flows.station import local
from racro.config import Recipe, loading
from racro.errors import BadInput
from racro.models import devices


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


@contextlib.contextmanager
def server() -> Iterator[None]:
    """A settled machine with a Prefect server: the station's, or one that ends with the context."""
    with local.prefect_server(settle()):
        yield


@contextlib.contextmanager
def flow() -> Iterator[None]:
    """Around a flow: progress bars, no tracebacks of bad input, and an interruption ends it in order."""
    from flows.cli import terminal

    _hide_tracebacks_of_bad_input()
    with terminal.progress_bars(), interruption.orderly():
        yield


def _hide_tracebacks_of_bad_input() -> None:
    """`flows.cli.main` says in one line what to change; where it was found is in the Prefect UI."""

    def wanted(record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], BadInput))

    for handler in logging.getLogger().handlers:  # Prefect's console is a handler of the root logger
        handler.addFilter(wanted)
