"""Has the work of this thread become useless? Stages that run beside others ask before they begin anything.

A thread cannot be ended from outside. So it is told, and what it waits for is taken away (`tasks.running.beside`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextvars import ContextVar


class Stopped(RuntimeError):
    """What ran beside this has failed or was interrupted."""


_signs: ContextVar[tuple[threading.Event, ...]] = ContextVar("racro_stopping", default=())
"""Of this thread, and of those from which it was started."""


def stopped() -> bool:
    """Is one of the signs set?"""
    return any(sign.is_set() for sign in _signs.get())


def require_going_on() -> None:
    """Raises Stopped."""
    if stopped():
        raise Stopped("what ran beside this has ended with an error or was interrupted")


@contextlib.contextmanager
def by(sign: threading.Event) -> Iterator[None]:
    """Within the context the sign counts, and in threads that get a copy of its context variables."""
    token = _signs.set((*_signs.get(), sign))
    try:
        yield
    finally:
        _signs.reset(token)
