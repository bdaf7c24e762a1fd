"""A signal that a library turned into another error: Prefect does so when it comes just before a task begins.

Whoever handles failures of any kind asks here first, so that Ctrl-C and SIGTERM always end a run and never look like a
failure of what they fell into.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from prefect.exceptions import TerminationSignal


def behind(error: BaseException) -> BaseException | None:
    """The signal that was being handled when `error` was raised, or that it is itself; None if it is a failure."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        if isinstance(one, KeyboardInterrupt | TerminationSignal):
            return one
        seen.add(id(one))
        one = one.__cause__ or one.__context__
    return None


@contextlib.contextmanager
def uncovered() -> Iterator[None]:
    """Within it, an error that covers a signal is that signal."""
    try:
        yield
    except Exception as error:
        signal = behind(error)
        if signal is None:
            raise
        raise signal from None
