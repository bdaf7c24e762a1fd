"""Weights on their way from the trainer to engines, in a folder of this machine: few at a time, and none left behind.

Each process has its own folder and a lock on it, which the kernel frees however the process ends; the next one that
starts removes the folders without an owner. Called by `tasks.running.trainer`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from racro.home import home
from racro.storage.files import full_disk_as_such

PREFIX = f"racro-scratch-{os.getuid()}-"


class Scratch:
    """Folders by name. The last one of each kind stays, and those that are in use. Several threads may use it."""

    def __init__(self, place: Path) -> None:
        """`place`: the folder that all processes share."""
        place.mkdir(parents=True, exist_ok=True)
        self.folder = place / f"{PREFIX}{os.getpid()}-{uuid.uuid4().hex[:8]}"
        with open(place / f"{PREFIX}lock", "ab") as one:  # of processes that start together, one after the other
            fcntl.flock(one, fcntl.LOCK_EX)
            _clean(place)
            self.folder.mkdir()
            self.lock = open(self.folder / "lock", "ab")  # noqa: SIM115  # held until the end of the process
            fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.changing = threading.RLock()
        self.uses: Counter[str] = Counter()
        self.newest: dict[str, str] = {}
        """The last name of each kind."""

    def make(self, name: str, fill: Callable[[Path], None], kind: str = "") -> Path:
        """Have `fill` write into a folder, which exists afterwards, or not at all."""
        final = self.folder / name
        with self.use(f"{name}.tmp") as temporary:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            with full_disk_as_such(str(self.folder)):
                fill(temporary)
            with self.changing:
                shutil.rmtree(final, ignore_errors=True)
                temporary.rename(final)
                self.newest[kind] = name
        return final

    def find(self, name: str) -> Path | None:
        """The folder of that name, if it is there."""
        return found if (found := self.folder / name).is_dir() else None

    @contextlib.contextmanager
    def use(self, name: str) -> Iterator[Path]:
        """A folder that stays within the context, if it is there."""
        with self.changing:
            self.uses[name] += 1
        try:
            yield self.folder / name
        finally:
            with self.changing:
                self.uses[name] -= 1
                self._tidy()

    def close(self) -> None:
        """Remove everything."""
        self.lock.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _tidy(self) -> None:
        for entry in self.folder.glob("*"):
            if entry.is_dir() and entry.name not in self.newest.values() and not self.uses[entry.name]:
                shutil.rmtree(entry, ignore_errors=True)


def _clean(place: Path) -> None:
    """Remove what processes left that were killed."""
    for folder in place.glob(f"{PREFIX}*/"):
        try:
            with open(folder / "lock", "ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # its owner lives
            continue


def at(place: str | None) -> Path:
    """The shared folder: `runtime.scratch`, or one below this machine's state."""
    return Path(place) if place else home() / "scratch"
