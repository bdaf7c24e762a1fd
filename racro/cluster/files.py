"""Folders of files through Ray's object store, in pieces, verified by their digest; and how much has travelled.

Ray sends an object from any node that has it, so weights for many nodes leave the run's machine about once. Used on
both sides, by `racro.cluster.node` and `racro.cluster.agent`.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any, NamedTuple

from racro.processes.launcher import MachineLost
from racro.storage.layout import LINEAGE, PRUNED, RECORD

PIECE = 128 * 2**20
"""Bytes of an object."""
PATIENCE = 600.0
"""Seconds for one piece to arrive."""
NOT_CONTENT = (RECORD, PRUNED, LINEAGE)


class Piece(NamedTuple):
    """A part of a file, in the object store."""

    name: str
    bytes: int
    reference: Any
    """None for a file without content."""


Pieces = list[Piece]


class Traffic(NamedTuple):
    """Copies of files between machines, since this process began."""

    bytes: int
    seconds: float


_lock = threading.Lock()
_traffic = Traffic(0, 0.0)


def traffic() -> Traffic:
    """All that has travelled for this process."""
    return _traffic


def count(size: int, seconds: float) -> None:
    """So much has travelled."""
    global _traffic
    with _lock:
        _traffic = Traffic(_traffic.bytes + size, _traffic.seconds + seconds)


def contents(folder: Path) -> list[Path]:
    """The files of a model, or of a trainer's state: those directly in the folder, without what we write about them."""
    return sorted(file for file in folder.iterdir() if file.is_file() and file.name not in NOT_CONTENT)


def digest_of(folder: Path) -> str:
    """Digest of the contents, with their names."""
    digest = hashlib.sha256()
    for file in contents(folder):
        with file.open("rb") as stream:
            digest.update(f"{file.name}:{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def pieces_of(folder: Path) -> Pieces:
    """Put the contents into the object store, where they stay as long as the pieces."""
    import ray

    pieces = []
    for file in contents(folder):
        if not file.stat().st_size:
            pieces.append(Piece(file.name, 0, None))
        with file.open("rb") as stream:
            while data := stream.read(PIECE):
                pieces.append(Piece(file.name, len(data), ray.put(data)))
    return pieces


def write_pieces(folder: Path, pieces: Pieces) -> None:
    """Write the files into an empty folder. Raises MachineLost if a node is lost that had them."""
    import ray

    for piece in pieces:
        with (folder / piece.name).open("ab") as stream:
            if piece.reference is not None:
                try:
                    stream.write(ray.get(piece.reference, timeout=PATIENCE))
                except ray.exceptions.RayError as error:
                    why = " ".join(str(error).split())[:200] or type(error).__name__
                    raise MachineLost(f"{piece.name} did not arrive from another node: {why}") from error
