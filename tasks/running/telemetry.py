"""What people look at while a run lasts and afterwards: it never ends a stage or a flow.

Prefect's artifacts are made here and nowhere else. A failure is one warning for each kind of record; the results do not
depend on it. Interruptions and timeouts of stages pass through.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

from prefect import artifacts

T = TypeVar("T")

logger = logging.getLogger("prefect.racro.telemetry")

_warned: set[str] = set()


def attempt(what: str, action: Callable[[], T]) -> T | None:
    """The result of `action`, or None where it failed."""
    try:
        return action()
    except Exception as error:  # of any server or library; the next records of the kind are attempted all the same
        if what not in _warned:
            _warned.add(what)
            reason = " ".join(str(error).split())[:300]
            logger.warning("%s is not recorded (%s: %s); the run goes on", what, type(error).__name__, reason)
        return None


def markdown(key: str, text: str, description: str) -> None:
    """A page among Prefect's artifacts."""
    attempt(
        "an artifact in Prefect",
        lambda: artifacts.create_markdown_artifact(text, key=key, description=description),
    )


def table(key: str, rows: list[dict[str, Any]], description: str) -> None:
    """A table among Prefect's artifacts."""
    attempt(
        "an artifact in Prefect",
        lambda: artifacts.create_table_artifact(rows, key=key, description=description),
    )


def progress(artifact: UUID | None, percent: float, description: str) -> UUID | None:
    """A progress bar in Prefect's UI: made, or moved on. Returns it; None where there is none yet."""
    if artifact is None:
        made = attempt(
            "progress in Prefect", lambda: artifacts.create_progress_artifact(percent, description=description)
        )
        return made if isinstance(made, UUID) else None
    attempt("progress in Prefect", lambda: artifacts.update_progress_artifact(artifact, progress=percent))
    return artifact
