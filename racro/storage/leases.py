"""Who makes an artifact now? A lease in a folder beside it, on any storage that can create a file exclusively.

flock ends at the machine; this does not. A lease is a series of numbered terms, each of up to three small files:

    term-00000007.claim    created exclusively by the holder
    term-00000007.beat     rewritten by the holder every few seconds, never with the same content
    term-00000007.end      created exclusively, once: the holder committed its record, or gave the lease back, or
                           somebody took it for dead

The holder's commit and the takeover create the same file, so the storage decides between them. A holder that was taken
for dead but lives on cannot commit any more: what it writes counts for nothing. No clocks are compared: who waits
counts how often it looked without seeing another beat. The term is the fencing token (`racro.storage.attempts`). Called
by `tasks.running.locks`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from racro.storage.files import create_file, exists, listing, read_file, remove_folder, write_file
from racro.storage.layout import RECORD

LEASE = "lease"
"""Folder of the lease, in the folder of what it is for."""
PAUSE = 5.0
"""Seconds between two beats, and between two looks at a holder's."""
LOOKS = 18
"""Looks in a row without another beat after which a holder on another machine counts as dead."""
TERM = re.compile(r"term-(\d{8})\.claim")

logger = logging.getLogger(__name__)


class Fenced(RuntimeError):
    """Another run has taken this one for dead, and makes the artifact."""


class Claim(BaseModel):
    """Content of a `.claim`: who holds the term."""

    model_config = ConfigDict(frozen=True)

    holder: str
    """A random name of this term's holder."""
    machine: str
    """The machine: whose kernel locks the holder holds too."""
    where: str
    """Host and process, for people."""


class End(BaseModel):
    """Content of an `.end`: how the term ended."""

    model_config = ConfigDict(frozen=True)

    by: str
    """Who ended it: the holder, or who took it for dead."""
    record: str | None = None
    """The record that the holder committed."""


class Lease:
    """A term that is held. A thread keeps it alive."""

    def __init__(self, place: str, folder: str, term: int, holder: str, pause: float) -> None:
        """`place`: the folder that it is for; `folder`: where the terms are."""
        self.place, self.folder, self.term, self.holder, self.pause = place, folder, term, holder, pause
        self.lost = False
        """Did somebody take this holder for dead?"""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def require(self) -> None:
        """Raises Fenced if the lease is known to be lost."""
        if self.lost:
            raise Fenced(f"{self.place}: another run took this one for dead and makes it now")

    def commit(self, record: str) -> bool:
        """End the term with a record; False if somebody else has ended it: the record then counts for nothing."""
        self._stop()
        claim = _read(f"{self._name}.claim", Claim)
        committed = claim is not None and claim.holder == self.holder and self._end(record)
        self.lost = not committed
        return committed

    def release(self) -> None:
        """Give the lease back. The terms are removed when the artifact is there; before that, their numbers grow."""
        self._stop()
        if self.lost or not (exists(f"{self._name}.end") or self._end(None)):
            return
        end = _read(f"{self._name}.end", End)
        if end is not None and end.by == self.holder and exists(f"{self.place}/{RECORD}"):
            remove_folder(self.folder)

    @property
    def _name(self) -> str:
        return f"{self.folder}/term-{self.term:08d}"

    def _end(self, record: str | None) -> bool:
        return _create(f"{self._name}.end", End(by=self.holder, record=record))

    def _stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        """Say that the holder lives, until it ends or is fenced. In a thread."""
        beats = 0
        while not self._over.wait(self.pause):
            try:
                if exists(f"{self._name}.end") or not exists(f"{self._name}.claim"):
                    self.lost = True
                    logger.warning("%s: another run took this one for dead and makes it now", self.place)
                    return
                beats += 1
                write_file(f"{self._name}.beat", str(beats).encode())
            except Exception as error:  # a storage that fails for long costs the lease, and never the work itself
                logger.warning("the lease on %s could not be renewed: %s", self.place, " ".join(str(error).split()))


_held: dict[str, Lease] = {}
"""Those on artifacts that are being made, by the artifact's folder."""


def holding(place: str) -> Lease | None:
    """The lease with which this process makes an artifact, if it holds one."""
    return _held.get(place)


@contextlib.contextmanager
def held(place: str, machine: str, name: str = LEASE, pause: float = PAUSE, looks: int = LOOKS) -> Iterator[Lease]:
    """Hold the lease on a folder; waits while another one does.

    `machine`: names what shares kernel locks with this process. The caller holds the one for this folder, so another
    holder on the same machine is dead, and is not waited for.
    """
    lease = _acquire(place, f"{place}/{name}", machine, pause, looks)
    if name == LEASE:
        _held[place] = lease
    try:
        yield lease
    finally:
        if name == LEASE:
            del _held[place]
        try:
            lease.release()
        except Exception as error:  # the work is done or has failed by now; others will count the holder as dead
            logger.warning("the lease on %s could not be given back: %s", place, " ".join(str(error).split()))


def _acquire(place: str, folder: str, machine: str, pause: float, looks: int) -> Lease:
    claim = Claim(holder=uuid.uuid4().hex, machine=machine, where=f"{socket.gethostname()} {os.getpid()}")
    seen: tuple[int, bytes] | None = None
    quiet = 0
    while True:
        term = max((int(found[1]) for file in listing(folder) if (found := TERM.fullmatch(_name(file)))), default=0)
        name = f"{folder}/term-{term:08d}"
        end = _read(f"{name}.end", End) if term else None
        if term and end is None:
            other = _read(f"{name}.claim", Claim)
            now = (term, _beat_of(name))
            quiet = quiet + 1 if now == seen else 0
            if quiet == 0 and seen is None:
                logger.info("%s: waiting for %s, which makes it", place, other.where if other else "another run")
            seen = now
            if (other is None or other.machine != machine) and quiet < looks:
                time.sleep(pause)
                continue
            _create(f"{name}.end", End(by=claim.holder))  # or its holder was faster: the next look tells
            continue
        if end is not None and end.record is not None:  # its holder died between its commit and the record
            create_file(f"{place}/{RECORD}", end.record.encode())
        if _create(f"{folder}/term-{term + 1:08d}.claim", claim):
            return Lease(place, folder, term + 1, claim.holder, pause)


def _create(uri: str, content: BaseModel) -> bool:
    """True if it was created, by this call or by an earlier one with the same content."""
    data = content.model_dump_json().encode()
    return create_file(uri, data) or _bytes(uri) == data


M = TypeVar("M", bound=BaseModel)


def _read(uri: str, kind: type[M]) -> M | None:
    try:
        return kind.model_validate_json(_bytes(uri))
    except ValidationError:  # not there, or shown before it was complete
        return None


def _bytes(uri: str) -> bytes:
    """The content of a file, empty if there is none."""
    try:
        return read_file(uri)
    except FileNotFoundError:
        return b""


def _beat_of(name: str) -> bytes:
    return _bytes(f"{name}.beat")


def _name(uri: str) -> str:
    return uri.rpartition("/")[2]
