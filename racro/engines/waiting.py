"""Waiting in a way that a stage's timeout can interrupt.

Prefect stops a thread by an exception that is raised between two steps of Python. A lock or queue that is waited for
holds it off, so engines wait for a short time only, again and again.
"""

from __future__ import annotations

import math
import queue
import time
from typing import TypeVar

T = TypeVar("T")

WAIT = 1.0
"""Seconds of waiting at a time."""


def take(items: queue.SimpleQueue[T], seconds: float = math.inf) -> T:
    """Wait for the next item. Raises queue.Empty after `seconds`."""
    until = time.monotonic() + seconds
    while True:
        try:
            return items.get(timeout=min(WAIT, max(0.0, until - time.monotonic())))
        except queue.Empty:
            if time.monotonic() >= until:
                raise
