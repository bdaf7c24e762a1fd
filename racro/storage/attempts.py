"""Attempts to make an artifact: each writes into a folder of its own, and one of them counts.

A run that was taken for dead may live on while another machine makes the same artifact. So attempts never write the
same file; the artifact's record says whose files count (`racro.storage.artifacts.write_record`), and only who still
holds the lease may write it (`racro.storage.leases`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import uuid

from racro.storage import leases
from racro.storage.files import in_time, is_local, opened, with_retries
from racro.storage.layout import PRUNED, RECORD

NAME = re.compile(r"attempt-[0-9a-f]{8}-[0-9a-f]{8}")
"""Term of the lease (0: none is held), and which attempt."""
DISCARD_DEADLINE = 10.0
"""Seconds for removing what a failed attempt wrote."""


def new(folder: str) -> str:
    """A folder for an attempt to make the artifact.

    With the lease on the artifact, what earlier attempts left is removed: they are dead, or can no longer commit.
    Raises Fenced if the lease was lost.
    """
    lease = leases.holding(folder)
    if lease is not None:
        lease.require()
        entries = _entries(folder)
        for name in entries:
            if NAME.fullmatch(name) and RECORD not in entries:
                _remove(f"{folder}/{name}")
    return f"{folder}/attempt-{lease.term if lease else 0:08x}-{uuid.uuid4().hex[:8]}"


def _entries(folder: str) -> list[str]:
    fs, path = opened(folder)
    try:
        found = with_retries(lambda: os.listdir(path) if is_local(fs) else fs.ls(path, detail=False))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [file.rstrip("/").rpartition("/")[2] for file in found]


def _remove(folder: str) -> None:
    """Remove a folder with all that is in it, if it is there; what its writer, who lives, adds meanwhile stays.

    That writer finds the record, or another holder of the lease, and removes its own.
    """
    fs, path = opened(folder)
    with contextlib.suppress(FileNotFoundError):
        try:
            with_retries(lambda: fs.rm(path, recursive=True))
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise


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
