"""What was downloaded: a cache on this machine's disk, bounded, verified on use, shared by any number of processes.

An entry is named by what it holds: a folder by a key of its caller's, a file by its sha256. When room is wanted, the
least recently used entries go; one in use never does. Locks are the kernel's on the folders themselves, so they end
with their holder, and none is left behind. Not here: where things come from. Called by `racro.data.images` and, for
models, by `tasks.running.downloads`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

PART = ".part"
"""Ends the name of what is being fetched: KEY.BYTES.part for folders, where BYTES is the room that it will take."""
ATTEMPTS = 3
"""Downloads of a folder that turns out not to be what it should."""
SLACK = 1 / 50
"""Share of the limit that a process may add in files before it looks again how much is there."""


class Corrupt(RuntimeError):
    """What was fetched is, again and again, not what it should be."""


class Cache:
    """A folder of at most `limit` bytes, entries in use excepted."""

    def __init__(self, root: Path, limit: int) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.limit = root, limit
        self._allowance = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def folder(
        self, key: str, size: int, fetch: Callable[[Path], None], intact: Callable[[Path], bool]
    ) -> Iterator[Path]:
        """The entry `key`; within the context it stays.

        size: bytes that it takes. `fetch` fills an empty folder, `intact` says whether one holds what it should. Raises
        Corrupt.
        """
        place = self.root / key
        fetched, corrupt = False, 0
        while True:
            with _locked(place, fcntl.LOCK_SH) as there:
                if there and intact(place):
                    os.utime(place)
                    yield place
                    return
            corrupt += there and fetched  # an entry that is gone again is not corrupt: another process made room
            if corrupt == ATTEMPTS:
                raise Corrupt(key)
            self._fetch(place, size, fetch, intact)
            fetched = True

    def file(self, sha256: str, fetch: Callable[[], bytes]) -> bytes:
        """The bytes of the file with this digest; what `fetch` returns where they are not here."""
        place = self.root / sha256
        with contextlib.suppress(OSError):
            data = place.read_bytes()
            if hashlib.sha256(data).hexdigest() == sha256:
                os.utime(place)
                return data
        data = fetch()
        if hashlib.sha256(data).hexdigest() == sha256:
            part = self.root / f"{sha256}.{uuid.uuid4().hex[:8]}{PART}"
            with contextlib.suppress(OSError):  # a full disk here is no reason to stop: the data are at hand
                self._make_room(len(data))
                part.write_bytes(data)
                part.replace(place)
        return data

    def _fetch(self, place: Path, size: int, fetch: Callable[[Path], None], intact: Callable[[Path], bool]) -> None:
        """Fill `place`, one process at a time; returns also when another process has meanwhile done so."""
        part = place.with_name(f"{place.name}.{size}{PART}")
        with contextlib.suppress(FileExistsError):  # also where another process is just renaming or removing it
            part.mkdir()
        with _locked(part, fcntl.LOCK_EX) as mine:
            if not mine:  # it has become `place`
                return
            if place.exists():
                if intact(place):
                    shutil.rmtree(part)
                    return
                shutil.rmtree(place, ignore_errors=True)  # also where it is in use: who reads it reads garbage
            try:
                for leftover in part.iterdir():  # of a process that was killed
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
                self._make_room()
                fetch(part)
            except BaseException:  # an interrupted download holds room that nobody uses; raised again
                shutil.rmtree(part)
                raise
            part.rename(place)

    def _make_room(self, size: int = 0) -> None:
        """Let the oldest entries go until `size` bytes more are within the limit, or nothing is left that can go."""
        with self._lock:
            self._allowance -= size
            if size and self._allowance >= 0:
                return
            slack = int(self.limit * SLACK)
            entries = sorted(_entries(self.root))
            total = sum(taken for _, taken, _ in entries)
            for _, taken, path in entries:
                if total + size + slack <= self.limit:
                    break
                if _remove(path):
                    total -= taken
            self._allowance = max(0, min(slack, self.limit - total - size))


def _entries(root: Path) -> Iterator[tuple[float, int, Path]]:
    """When it was used last, bytes, path. What vanishes meanwhile is left out."""
    for path in root.iterdir():
        with contextlib.suppress(OSError):
            state = path.stat()
            size = state.st_size
            if path.is_dir():
                size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                if path.suffix == PART:
                    size = max(size, int(path.name.split(".")[-2]))
            yield state.st_mtime, size, path


def _remove(path: Path) -> bool:
    """Remove an entry unless it is in use."""
    if not path.is_dir():
        try:
            path.unlink(missing_ok=True)
        except IsADirectoryError:  # it was gone, and another process has just made it again
            return False
        return True
    with _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB) as free:
        if free:
            shutil.rmtree(path, ignore_errors=True)
        return free


@contextlib.contextmanager
def _locked(folder: Path, how: int) -> Iterator[bool]:
    """Hold a lock on a folder; False where it is not there (any more), or is held and `how` says not to wait."""
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(held, how)
        there = os.path.exists(folder) and os.path.samestat(os.stat(folder), os.fstat(held))
    except (BlockingIOError, FileNotFoundError):
        there = False
    try:
        yield there
    finally:
        os.close(held)


# --- the process's own ------------------------------------------------------------------------------------------------

_shared: Cache | None = None


def share(root: Path, limit: int) -> Cache:
    """Use this cache for what the process downloads from now on."""
    global _shared
    if _shared is None or (_shared.root, _shared.limit) != (root, limit):
        _shared = Cache(root, limit)
    return _shared


def through(sha256: str, fetch: Callable[[], bytes]) -> bytes:
    """A file through the process's cache, where there is one."""
    return fetch() if _shared is None else _shared.file(sha256, fetch)
