"""Who watches stages and trainings of this process: they are told of progress, of iterations, and in words.

Without Prefect, so that what runs before its server is there can say something too. `flows.cli.terminal` watches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from racro.pace import Row

Observer = Callable[[str, int, int], None]
"""(what, done, total)"""

observers: list[Observer] = []

row_observers: list[Callable[[Row], None]] = []
"""Called after each iteration of a training."""

line_observers: list[Callable[[str], None]] = []
"""Called with what a flow has to say to people before anything is done."""


@contextlib.contextmanager
def observed(stage: Observer, row: Callable[[Row], None], line: Callable[[str], None]) -> Iterator[None]:
    """Tell these of all that goes on within the context."""
    observers.append(stage)
    row_observers.append(row)
    line_observers.append(line)
    try:
        yield
    finally:
        observers.remove(stage)
        row_observers.remove(row)
        line_observers.remove(line)
