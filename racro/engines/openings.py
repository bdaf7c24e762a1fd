"""Seconds that engines and the trainer took to open, in this process: whichever stage comes first waits for them.

Stages put them into their records, so that a plan can tell them from the work (`racro.planning.measured`).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping

_lock = threading.Lock()
_seconds: dict[str, float] = defaultdict(float)


def seconds() -> dict[str, float]:
    """Of each role, since this process began."""
    with _lock:
        return dict(_seconds)


def since(before: Mapping[str, float]) -> dict[str, float]:
    """What has been opened since `seconds` said `before`, as metrics."""
    now = seconds()
    return {metric(role): round(now[role] - before.get(role, 0.0), 3) for role in now if now[role] != before.get(role)}


def metric(role: str) -> str:
    """Its name in a record."""
    return f"opening_{role}_seconds"


@contextlib.contextmanager
def counted(role: str) -> Iterator[None]:
    """The role is opened within the context."""
    start = time.monotonic()
    try:
        yield
    finally:
        with _lock:
            _seconds[role] += time.monotonic() - start
