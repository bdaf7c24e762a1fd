"""One process of this machine at a time makes an artifact; the others wait for it and then find it in the cache.

Without it two runs that start together on one root would both caption iteration 0: equal results, twice the time. The
kernel gives a lock back when its holder dies, however it dies, so none is ever left behind. Not a guard of the data:
records are written whole or not at all, and two machines that make the same artifact cost time, nothing else. Called by
`tasks.running.stages`.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator

from racro.home import home
from racro.identity import digest

DIGITS = 4
"""Hex digits of a lock file's name: bounds how many there are; two artifacts that meet in one only wait in turn."""


@contextlib.contextmanager
def alone(root: str, key: str) -> Iterator[None]:
    """Hold the artifact `key` under `root`; waits while another process or thread holds it."""
    folder = home() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / digest([root, key])[:DIGITS], "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
