"""`faulty://`: a file system in memory whose disk fills up or whose network drops, where and when a test says.

Not a mock: data, listings and copies are fsspec's memory file system's; only the faults are ours. A full disk keeps the
half of the file that was being written, as real ones do, and stays full until there is space again.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class FaultyFileSystem(MemoryFileSystem):
    """Faults are of the class: every instance is the same disk."""

    protocol = "faulty"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    fills_at: re.Pattern[str] | None = None
    """The disk is full in the middle of the next file that matches."""
    full = False
    drops_at: tuple[str, re.Pattern[str]] | None = None
    """(read or write, path): there the connection is lost, once."""

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        path = path.removeprefix("faulty://").rstrip("/")
        return "/" + path.lstrip("/") if path else ""

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        if mode == "create" and self.exists(path):
            raise FileExistsError(path)
        self._write(path, value)

    def put_file(self, lpath: str, rpath: str, *args: Any, **kwargs: Any) -> None:
        with contextlib.suppress(IsADirectoryError), open(lpath, "rb") as stream:
            self._write(rpath, stream.read())

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        if "r" in mode:
            self._drop("read", path)
        return super()._open(path, mode, **kwargs)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        self._drop("read", path)
        return super().cat_file(path, start, end, **kwargs)

    def _write(self, path: str, data: bytes) -> None:
        self._drop("write", path)
        path = self._strip_protocol(path)
        if type(self).fills_at and type(self).fills_at.search(path):
            type(self).full, type(self).fills_at = True, None
            MemoryFileSystem.pipe_file(self, path, data[: len(data) // 2])
        if type(self).full:
            raise OSError(errno.ENOSPC, "No space left on device", path)
        MemoryFileSystem.pipe_file(self, path, data)

    @classmethod
    def _drop(cls, what: str, path: str) -> None:
        if cls.drops_at and cls.drops_at[0] == what and cls.drops_at[1].search(path):
            cls.drops_at = None
            raise ConnectionResetError(f"connection lost at {path}")


@contextlib.contextmanager
def full_disk(at: str) -> Iterator[None]:
    """The disk fills up in the middle of the first file that matches `at`; at the end there is space again."""
    FaultyFileSystem.fills_at = re.compile(at)
    try:
        yield
        assert FaultyFileSystem.full, f"nothing was written at {at}"
    finally:
        FaultyFileSystem.full, FaultyFileSystem.fills_at = False, None


@contextlib.contextmanager
def lost_connection(what: str, at: str) -> Iterator[None]:
    """The connection is lost once, at the first `read` or `write` of a file that matches `at`."""
    FaultyFileSystem.drops_at = (what, re.compile(at))
    try:
        yield
        assert FaultyFileSystem.drops_at is None, f"no {what} at {at}"
    finally:
        FaultyFileSystem.drops_at = None


def install() -> None:
    """Make `faulty://` known to fsspec."""
    fsspec.register_implementation("faulty", FaultyFileSystem, clobber=True)
