"""Waiting for what takes longer on a busy machine."""

from __future__ import annotations

import time
from collections.abc import Callable


def eventually(there: Callable[[], bool], deadline: float = 300, pause: float = 0.2) -> bool:
    """Does it become true within `deadline` seconds? Asks every `pause` seconds, and once more at the end."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        if there():
            return True
        time.sleep(pause)
    return there()
