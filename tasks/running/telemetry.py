"""What people look at while a run lasts and afterwards: it never ends a stage or a flow.

Prefect's artifacts are made here and nowhere else. A failure is one warning for each kind of record; the results do not
depend on it. Interruptions and timeouts of stages pass through.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

from prefect import artifacts, get_client
from prefect.client.schemas.actions import ArtifactUpdate

from tasks.running.signals import uncovered

T = TypeVar("T")

logger = logging.getLogger("prefect.racro.telemetry")

SLOW, REST = 5.0, 120.0
"""Seconds: after a record that was lost in more than SLOW, none of the kind is attempted for REST."""

_warned: set[str] = set()
_lost: dict[str, float] = {}
"""Kinds whose last record was lost, and until when their servers rest."""


def lost(what: str) -> bool:
    """Was the last record of this kind lost?"""
    return what in _lost


def attempt(what: str, action: Callable[[], T], last: bool = False) -> T | None:
    """The result of `action`, or None where it failed, or was left out because its server rests.

    Servers that are away or hang take a minute to say so, which must not be paid for each record. last: attempted in
    any case, because nothing of the kind comes after it.
    """
    start = time.monotonic()
    if start < _lost.get(what, 0.0) and not last:
        return None
    try:
        with uncovered():
            result = action()
    except Exception as error:  # of any server or library
        now = time.monotonic()
        _lost[what] = now + (REST if now - start > SLOW else 0.0)
        if what not in _warned:
            _warned.add(what)
            reason = " ".join(str(error).split())[:300]
            logger.warning("%s is not recorded (%s: %s); the run goes on", what, type(error).__name__, reason)
        return None
    _lost.pop(what, None)
    return result


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


def link(key: str, address: str, text: str, description: str) -> None:
    """A link among Prefect's artifacts."""
    attempt(
        "an artifact in Prefect",
        lambda: artifacts.create_link_artifact(address, link_text=text, key=key, description=description),
    )


def page(artifact: UUID | None, key: str, text: str, description: str) -> UUID | None:
    """A page that is renewed while a run lasts: made, or replaced. Returns it; None where there is none yet."""
    return _renewed(
        artifact,
        lambda: artifacts.create_markdown_artifact(text, key=key, description=description),
        ArtifactUpdate(data=text, description=description),
    )


def image(artifact: UUID | None, key: str, png: bytes, description: str) -> UUID | None:
    """A picture that is renewed while a run lasts, inside the artifact: Prefect serves no files of ours."""
    address = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return _renewed(
        artifact,
        lambda: artifacts.create_image_artifact(address, key=key, description=description),
        ArtifactUpdate(data=address, description=description),
    )


def progress(artifact: UUID | None, percent: float, description: str, key: str | None = None) -> UUID | None:
    """A progress bar in Prefect's UI: made, or moved on. Returns it; None where there is none yet."""
    return _renewed(
        artifact,
        lambda: artifacts.create_progress_artifact(percent, key=key, description=description),
        ArtifactUpdate(data=percent, description=description),
        "progress in Prefect",
    )


def _renewed(
    artifact: UUID | None, make: Callable[[], Any], update: ArtifactUpdate, what: str = "an artifact in Prefect"
) -> UUID | None:
    def renew() -> UUID:
        if artifact is None:
            made = make()
            assert isinstance(made, UUID)
            return made
        with get_client(sync_client=True) as client:
            client.update_artifact(artifact, update)
        return artifact

    return attempt(what, renew) or artifact
