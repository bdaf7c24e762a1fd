"""One process at a time makes an artifact; the others wait for it and then find it in the cache.

Without it two runs that start together on one root would both caption iteration 0: equal results, twice the time.
Processes of one machine wait for a kernel lock, which is given back at once when its holder dies, however it dies.
Machines wait for a lease beside the artifact (`racro.storage.leases`). Called by `tasks.running.stages`.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from racro.home import home
from racro.identity import digest
from racro.storage import leases
from tasks.running import observing

logger = logging.getLogger("prefect.racro.locks")

DIGITS = 4
"""Hex digits of a lock file's name: bounds how many there are; two artifacts that meet in one only wait in turn."""
PATIENCE = 10.0
"""Seconds of waiting after which people are told for whom."""
BOOT = Path("/proc/sys/kernel/random/boot_id")
"""Where Linux says which start of which machine this is."""


@contextlib.contextmanager
def alone(root: str, key: str, needed: Callable[[], bool], lease: str = leases.LEASE) -> Iterator[None]:
    """Hold the folder `key` under `root`; waits while another process, thread or machine holds it.

    `needed`: is there anything to make? If not, no lease is taken. `lease`: its name, if the folder has several.
    """
    with in_turn(digest([root, key])[:DIGITS]) as folder, contextlib.ExitStack() as stack:
        if needed():
            stack.enter_context(leases.held(f"{root}/{key}", _machine(folder), lease))
        yield


@contextlib.contextmanager
def in_turn(name: str) -> Iterator[Path]:
    """Hold a lock of this machine; waits while another process or thread does. Yields the folder of the locks."""
    folder = home() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / name, "a+") as held:
        told = threading.Timer(PATIENCE, _tell, [held])
        told.daemon = True
        told.start()
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
        finally:
            told.cancel()
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
        yield folder


def _tell(held: IO[str]) -> None:
    """Say who holds the lock."""
    held.seek(0)
    line = (
        f"waiting for process {held.read() or 'of another run'}, which makes what this run needs too; if it is "
        "stopped, let it go on or end it"
    )
    logger.warning(line)
    for observer in observing.line_observers:
        observer(line)


def _machine(folder: Path) -> str:
    """Names what shares the kernel locks in `folder`: never the same on two machines, or in two containers."""
    started = BOOT.read_text().strip() if BOOT.exists() else ""
    state = folder.stat()
    return digest([socket.gethostname(), started, state.st_dev, state.st_ino])[:16]
