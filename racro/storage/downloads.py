"""A cache of downloads on local disk: bounded in size, verified on use, shared by any number of processes.

A folder is stored under a key that its caller chooses, a file under its sha256. To make room, the least recently used
entries are removed; an entry in use never is. Locks are kernel locks on the folders themselves, so they end with the
process that holds them. Not here: where downloads come from. Called by `racro.data.images` and, for models, by
`tasks.running.downloads`.
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
"""Suffix of a download in progress. For folders the name is KEY.BYTES.part, where BYTES is the size when complete."""
ATTEMPTS = 3
"""How often a folder is downloaded if it turns out to be corrupt."""
SLACK = 1 / 50
"""Share of the size limit that a process may add as files before it measures the cache again."""


class Corrupt(RuntimeError):
    """A download that was corrupt every time."""


class Cache:
    """A folder of at most `limit` bytes, not counting entries in use."""

    def __init__(self, root: Path, limit: int) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.limit = root, limit
        self._allowance = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def folder(
        self, key: str, size: int, fetch: Callable[[Path], None], intact: Callable[[Path], bool]
    ) -> Iterator[Path]:
        """The folder stored under `key`; it is not removed within the context.

        size: its size in bytes. `fetch` fills an empty folder; `intact` says whether a folder is complete and correct.
        Raises Corrupt.
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
        """The bytes of the file with this digest: from the cache, or else whatever `fetch` returns."""
        place = self.root / sha256
        with contextlib.suppress(OSError):
            data = place.read_bytes()
            if hashlib.sha256(data).hexdigest() == sha256:
                os.utime(place)
                return data
        data = fetch()
        if hashlib.sha256(data).hexdigest() == sha256:
            part = self.root / f"{sha256}.{uuid.uuid4().hex[:8]}{PART}"
            with contextlib.suppress(OSError):  # if this disk is full, the data are still usable
                self._make_room(len(data))
                part.write_bytes(data)
                part.replace(place)
        return data

    def _fetch(self, place: Path, size: int, fetch: Callable[[Path], None], intact: Callable[[Path], bool]) -> None:
        """Fill `place`, one process at a time. Also returns when another process has done so meanwhile."""
        part = place.with_name(f"{place.name}.{size}{PART}")
        with contextlib.suppress(FileExistsError):  # also where another process is just renaming or removing it
            part.mkdir()
        with _locked(part, fcntl.LOCK_EX) as mine:
            if not mine:  # another process has renamed it to `place`
                return
            if place.exists():
                if intact(place):
                    shutil.rmtree(part)
                    return
                shutil.rmtree(place, ignore_errors=True)  # even if in use: its readers would read corrupt data
            try:
                for leftover in part.iterdir():  # from a killed process
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
                self._make_room()
                fetch(part)
            except BaseException:  # an interrupted download only takes space; raised again
                shutil.rmtree(part)
                raise
            part.rename(place)

    def _make_room(self, size: int = 0) -> None:
        """Remove the oldest entries until `size` more bytes fit into the limit, or no entry can be removed."""
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
    """Time of last use, bytes and path of each entry. Entries that disappear meanwhile are left out."""
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
    """Remove an entry unless it is in use. Was it removed?"""
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
    """Hold a lock on a folder. Yields False if the folder does not exist (any more), or if `how` says not to wait and
    another process holds the lock."""
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


# --- the cache of this process ----------------------------------------------------------------------------------------

_shared: Cache | None = None


def share(root: Path, limit: int) -> Cache:
    """Use this cache for all later downloads of this process."""
    global _shared
    if _shared is None or (_shared.root, _shared.limit) != (root, limit):
        _shared = Cache(root, limit)
    return _shared


def through(sha256: str, fetch: Callable[[], bytes]) -> bytes:
    """A file through the cache of this process; without a cache, from `fetch`."""
    return fetch() if _shared is None else _shared.file(sha256, fetch)
