"""The actor on a node: starts one program of ours there, passes its messages on, and fetches files for it.

The program is the one that a run starts on its own machine (`racro.engines.worker.main`, `racro.training.rank`), and
ends with the actor. An actor outlives the run's process; the next one begins another session, and the one before gets
Superseded. Created by `racro.cluster.keeper`; the other side is `racro.cluster.node`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil  # type: ignore[import-untyped]
import ray

from racro.cluster.files import Pieces, digest_of, pieces_of, write_pieces
from racro.processes.launcher import HERE, Started, Superseded
from racro.processes.wire import Gone
from racro.storage.downloads import Cache

KEPT = 2
"""Copies of folders that a program may still read: of a policy and the one before, of a model and a state."""
TAIL = 2**20
"""Bytes at the end of the program's log that are sent to the run."""
GATHER = 0.05
"""Seconds between fetches in which what a program says is gathered: each fetch costs milliseconds of both sides."""
AT_ONCE = 4
"""Fetches after a pause that need not wait, so that a question and its answer are quick."""
THREADS = "OMP_NUM_THREADS"
"""How many threads torch computes with."""


class About(NamedTuple):
    """What a run wants to know of a node."""

    node: str
    """Ray's name of it."""
    address: str
    version: str
    """Of racro."""


class Agent:
    """A program on this node, and the messages from it that are not fetched yet."""

    def __init__(self, scratch: str | None, cache: int) -> None:
        """`scratch`: a folder of this node; `cache`: bytes for copies of folders."""
        self.scratch = Path(scratch or Path(tempfile.gettempdir()) / f"racro-{os.getuid()}")
        self.cache = Cache(self.scratch / "folders", cache)
        self.kept: deque[tuple[str, contextlib.ExitStack]] = deque()
        self.session = ""
        self.started: Started | None = None
        self.log = self.scratch / "logs" / f"{uuid.uuid4().hex}.log"
        self.changed = threading.Condition()
        """Guards and announces what follows."""
        self.outbox: deque[bytes] = deque()
        self.ended = False
        self.told = deque([0.0] * AT_ONCE, maxlen=AT_ONCE)
        """When something was fetched, the last times."""

    def about(self) -> About:
        """This node."""
        node = ray.get_runtime_context().get_node_id()
        return About(node, ray.util.get_node_ip_address(), importlib.metadata.version("racro"))

    def call(self, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        """See `racro.processes.launcher.Machine.call`."""
        return function(*arguments)

    # --- the program --------------------------------------------------------------------------------------------------

    def start(self, session: str, module: str, env: Mapping[str, str], flags: Sequence[str]) -> tuple[int, bool]:
        """Start the program, or go on with the one that runs; its pid, and whether it ran."""
        with self.changed:
            self.session = session
            self.outbox.clear()
            self.changed.notify_all()
            if self.started is not None and not self.ended:
                return self.started.process.pid, True
            _forget_threads()
            home = {} if "RACRO_HOME" in os.environ else {"RACRO_HOME": str(self.scratch / "home")}
            self.started = HERE.start(module, {**home, **env}, self.log, flags)
            self.ended = False
            threading.Thread(target=self._read, args=(self.started,), daemon=True).start()
            return self.started.process.pid, False

    def send(self, session: str, messages: Sequence[bytes]) -> None:
        """Pass messages on to the program. Raises Superseded; that it has ended is said by `receive`."""
        self._require(session)
        with contextlib.suppress(Gone):
            for message in messages:
                self._running.wire.send_bytes(message)

    def receive(self, session: str, seconds: float) -> tuple[list[bytes], bool]:
        """What the program has said, waited for so long, and whether that was the last. Raises Superseded."""
        with self.changed:
            self.changed.wait_for(lambda: self.outbox or self.ended or self.session != session, seconds)
            rest = self.told[0] + AT_ONCE * GATHER - time.monotonic()
            if rest > 0:
                self.changed.wait_for(lambda: self.ended or self.session != session, rest)
            self._require(session)
            self.told.append(time.monotonic())
            said = list(self.outbox)
            self.outbox.clear()
            return said, self.ended

    def wait(self, seconds: float) -> int | None:
        """See `racro.processes.child.Child.wait`."""
        return self._running.process.wait(seconds)

    def last_words(self, lines: int) -> str:
        """See `racro.processes.child.Child.last_words`."""
        return self._running.process.last_words(lines)

    def stop(self, patience: float) -> bytes:
        """End the program; the end of its log."""
        self._running.process.stop(patience)
        with self.log.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - TAIL))
            said = stream.read()
        self.log.unlink()
        return said

    def _read(self, started: Started) -> None:
        """Keep what the program says until it is fetched. In a thread."""
        try:
            while True:
                message = started.wire.receive_bytes()
                with self.changed:
                    self.outbox.append(message)
                    self.changed.notify_all()
        except Gone:
            with self.changed:
                self.ended = True
                self.changed.notify_all()

    def _require(self, session: str) -> None:
        if session != self.session:
            raise Superseded("another process of this run uses it now")

    @property
    def _running(self) -> Started:
        assert self.started is not None
        return self.started

    # --- files --------------------------------------------------------------------------------------------------------

    def find(self, path: str, digest: str) -> str | None:
        """A folder of the run's machine that this node sees, with this content; or a copy that is here."""
        if Path(path).is_dir() and digest_of(Path(path)) == digest:
            return path
        return None

    def fetch(self, digest: str, pieces: Pieces) -> str:
        """A copy of a folder, verified. It stays until the program has got two others. Raises Corrupt."""
        with contextlib.ExitStack() as stack:
            place = stack.enter_context(
                self.cache.folder(
                    digest,
                    sum(piece.bytes for piece in pieces),
                    lambda folder: write_pieces(folder, pieces),
                    lambda folder: digest_of(folder) == digest,
                )
            )
            self.kept.append((digest, stack.pop_all()))
        while len(self.kept) > KEPT:
            self.kept.popleft()[1].close()
        return str(place)

    def output(self, path: str, mark: str | None) -> str:
        """Where to write what belongs into a folder of the run's machine: there, if `mark` is seen in it."""
        if mark is not None and (Path(path) / mark).exists():
            return path
        self.scratch.mkdir(parents=True, exist_ok=True)
        return tempfile.mkdtemp(prefix="output-", dir=self.scratch)

    def taken(self, folder: str) -> Pieces:
        """What was written into a folder of this node, which is removed."""
        pieces = pieces_of(Path(folder))
        shutil.rmtree(folder)
        return pieces


def _forget_threads() -> None:
    """Let a program compute with as many threads as beside Ray, which gives an actor one for a part of a CPU.

    What the node was started with stays.
    """
    with contextlib.suppress(psutil.Error):
        if THREADS not in psutil.Process(os.getppid()).environ():
            os.environ.pop(THREADS, None)
