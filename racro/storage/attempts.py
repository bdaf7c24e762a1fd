"""Attempts to make an artifact: each writes into a folder of its own, and one of them counts.

Two machines may make the same artifact at once, for example when a run that was taken for dead lives on. So they never
write the same file, and the artifact's record, of which there can be only one, says whose files count
(`racro.storage.artifacts.write_record`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import uuid

from racro.home import home
from racro.storage.files import in_time, is_local, opened, with_retries
from racro.storage.layout import PRUNED, RECORD

NAME = re.compile(r"attempt-[0-9a-f]{8}-[0-9a-f]{8}")
"""Which machine, which attempt."""
DISCARD_DEADLINE = 10.0
"""Seconds for removing what a failed attempt wrote."""


def new(folder: str) -> str:
    """A folder for an attempt to make the artifact. Removes what killed attempts of this machine left.

    The caller holds the machine's lock on the artifact (`tasks.running.locks`), so none of them is alive.
    """
    machine = hashlib.sha256(f"{socket.gethostname()} {home().resolve()}".encode()).hexdigest()[:8]
    for name in _entries(folder):
        if name.startswith(f"attempt-{machine}-"):
            _remove(f"{folder}/{name}")
    return f"{folder}/attempt-{machine}-{uuid.uuid4().hex[:8]}"


def _entries(folder: str) -> list[str]:
    fs, path = opened(folder)
    try:
        found = with_retries(lambda: os.listdir(path) if is_local(fs) else fs.ls(path, detail=False))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [file.rstrip("/").rpartition("/")[2] for file in found]


def _remove(folder: str) -> None:
    """Remove a folder with all that is in it, if it is there."""
    fs, path = opened(folder)
    with contextlib.suppress(FileNotFoundError):
        with_retries(lambda: fs.rm(path, recursive=True))


def keep_only(folder: str, name: str) -> None:
    """Remove everything else than records from an artifact's folder, except the files of this attempt.

    Another attempt that still writes finds the record at its end, and gives up.
    """
    for entry in _entries(folder):
        if entry not in (name, RECORD, PRUNED) and not entry.endswith(".tmp"):
            _remove(f"{folder}/{entry}")


def discard(folder: str) -> None:
    """Remove the folder of an attempt that failed, without patience: the storage may be what failed."""
    fs, path = opened(folder)
    with contextlib.suppress(FileNotFoundError):
        in_time(lambda: fs.rm(path, recursive=True), DISCARD_DEADLINE)


def split(folder: str) -> tuple[str, str]:
    """The artifact's folder, and the attempt's name or ""."""
    outer, _, name = folder.rstrip("/").rpartition("/")
    return (outer, name) if NAME.fullmatch(name) else (folder.rstrip("/"), "")
