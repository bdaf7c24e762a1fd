"""Waiting in a way that a stage's timeout can interrupt.

Prefect stops a thread by an exception that is raised between two steps of Python. A lock or queue that is waited for
holds it off, so engines wait for a short time only, again and again.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")

WAIT = 1.0
"""Seconds of waiting at a time."""
PATIENCE = 1.0
"""Seconds to wait for an engine that is being opened when it should be closed."""


def take(items: queue.SimpleQueue[T], seconds: float = math.inf) -> T:
    """Wait for the next item. Raises queue.Empty after `seconds`."""
    until = time.monotonic() + seconds
    while True:
        try:
            return items.get(timeout=min(WAIT, max(0.0, until - time.monotonic())))
        except queue.Empty:
            if time.monotonic() >= until:
                raise


@contextlib.contextmanager
def unless_opening(opening: threading.Lock) -> Iterator[bool]:
    """Hold the lock under which an engine is opened, unless that takes longer: for minutes perhaps. Yields if it is."""
    held = opening.acquire(timeout=PATIENCE)
    try:
        yield held
    finally:
        if held:
            opening.release()
