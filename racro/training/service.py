"""The trainer, alive from iteration to iteration: in the run's own process, or in one process for each GPU.

Both kinds take the same commands (`racro.training.host`). Several processes end together: if one is lost or fails, all
are, and the stage begins again from the last state. Opened by `tasks.running.trainer`. Loads torch on use.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from racro import imports
from racro.config import TrainerPlacement
from racro.engines.worker.wire import Gone, Wire
from racro.processes.child import Child, ending, free_port, python
from racro.training.failures import TrainerLost

if TYPE_CHECKING:
    from racro.training.planning import Plan
    from racro.training.sharding import Spread
    from racro.training.trainer import Training

logger = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
EXIT = 5.0
"""Seconds between a process's last message and its exit status."""
PATIENCE = 10.0
"""Seconds that processes have to end by themselves."""


class Service(ABC):
    """A trainer that can be told what to do. `policy`: what it holds."""

    def __init__(self) -> None:
        self.policy: str | None = None
        self.closed = False

    def begin(self, training: Training, start: Path | None, policy: str) -> dict[str, Spread]:
        """Load what `start` holds, the state of `policy`; None: the initial policy. How the models lie in a process."""
        self.policy = None
        found: dict[str, Spread] = self._do("begin", training, start, policy)
        self.policy = policy
        for name, how in found.items():
            share = f"{how.here / how.whole:.0%} of {how.whole / 1e6:,.1f} M weights here, in {how.parts} parts"
            logger.info("%s: %s", name, share if how.parts else f"{how.whole / 1e6:,.1f} M weights")
        return found

    def update(
        self, expected: str, becomes: str, work: Plan, images_base: str, step: int, progress: Progress
    ) -> dict[str, float]:
        """See `racro.training.trainer.Trainer.update`."""
        self.policy = None
        metrics: dict[str, float] = self._do("update", expected, becomes, work, images_base, step, progress=progress)
        self.policy = becomes
        return metrics

    def export(self, expected: str, out: Path) -> None:
        """Write the policy as a model folder."""
        self._do("export", expected, out)

    def save(self, expected: str, folder: Path) -> None:
        """Write the state, to begin from later."""
        self._do("save", expected, folder)

    def rest(self) -> None:
        """Free the memory of models and optimizer."""
        self.policy = None
        self._do("rest")

    @abstractmethod
    def close(self) -> None:
        """End it. May be called twice."""

    @abstractmethod
    def _do(self, command: str, *arguments: Any, progress: Progress | None = None) -> Any:
        """Have it done; what the first process returns."""


class Inline(Service):
    """The trainer in this process."""

    def __init__(self) -> None:
        super().__init__()
        with imports.quick():
            from racro.training.host import Host  # torch and trl, only where the stage runs
        self.host = Host()

    def close(self) -> None:
        """See Service."""
        self.closed, self.policy = True, None
        self.host.rest()

    def _do(self, command: str, *arguments: Any, progress: Progress | None = None) -> Any:
        if progress is not None:
            arguments = (*arguments, progress)
        try:
            return getattr(self.host, command)(*arguments)
        except BaseException:  # raised again: what is half done must not stay in memory
            self.policy = None
            self.host.rest()
            raise


class Processes(Service):
    """One process for each GPU, or as many as `runtime.trainer.processes` says on CPUs."""

    def __init__(self, placement: TrainerPlacement, log: Path) -> None:
        """Start them. `log`: what they print, one file for all."""
        super().__init__()
        self.log = log
        self.messages: queue.SimpleQueue[tuple[int, str, Any]] = queue.SimpleQueue()
        self.children: list[Child] = []
        self.wires: list[Wire] = []
        common = {
            "WORLD_SIZE": str(placement.world),
            "LOCAL_WORLD_SIZE": str(placement.world),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        }
        if placement.gpus:
            # Numbers as nvidia-smi counts them.
            common |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, placement.gpus))}
        else:
            common["GLOO_SOCKET_IFNAME"] = "lo"
        for rank in range(placement.world):
            ours, theirs = socket.socketpair()
            with theirs:
                command = python("racro.training.rank", str(theirs.fileno()))
                env = {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
                self.children.append(Child(command, env=env, log=log, pass_fds=[theirs.fileno()]))
            self.wires.append(Wire(ours.detach()))
            threading.Thread(target=self._read, args=(rank,), name=f"trainer-{rank}", daemon=True).start()

    @property
    def pids(self) -> list[int]:
        """Of the processes, by rank."""
        return [child.pid for child in self.children]

    def close(self) -> None:
        """See Service."""
        self.closed, self.policy = True, None
        for wire in self.wires:
            with contextlib.suppress(OSError):
                socket.socket(fileno=os.dup(wire.connection.fileno())).shutdown(socket.SHUT_RDWR)
        for child in self.children:
            child.stop(PATIENCE)
        self.children, self.wires = [], []

    def _do(self, command: str, *arguments: Any, progress: Progress | None = None) -> Any:
        """Have all processes do it; what the first returns. Raises TrainerLost, and what any of them raises."""
        if not self.wires:
            raise TrainerLost("the trainer was closed")
        try:
            with contextlib.suppress(Gone):  # then its reader says so
                for wire in self.wires:
                    wire.send(command, content=arguments)
            answers: dict[int, Any] = {}
            while len(answers) < len(self.wires):
                rank, kind, content = self._next()
                if kind == "done":
                    answers[rank] = content
                elif kind == "progress":
                    if progress is not None and rank == 0:
                        progress(*content)
                elif kind == "error":
                    # What a process says of a peer that is gone is an error like any other.
                    if type(content) is RuntimeError and (gone := self._killed(rank)) is not None:
                        raise TrainerLost(self._how(gone, None))
                    raise content
                else:
                    raise TrainerLost(self._how(rank, content))
            return answers[0]
        except BaseException:  # raised again: those that are left would wait for the others
            self.close()
            raise

    def _next(self) -> tuple[int, str, Any]:
        """The next message; wakes regularly, so that signals are heard."""
        while True:
            try:
                return self.messages.get(timeout=0.5)
            except queue.Empty:
                continue

    def _killed(self, but: int) -> int | None:
        """A process other than `but` that was killed, if there is one."""
        others = (rank for rank in range(len(self.children)) if rank != but)
        return next((rank for rank in others if (self.children[rank].wait(1.0) or 0) < 0), None)

    def _how(self, rank: int, said: str | None) -> str:
        child = self.children[rank]
        status = child.wait(EXIT)
        how = said or ("hung up" if status is None else ending(status))
        who = f"process {rank} of {len(self.children)} of the trainer"
        return f"{who} {how}; the end of {self.log}: {child.last_words()}"

    def _read(self, rank: int) -> None:
        """Hand on what a process says until it ends. In a thread."""
        wire = self.wires[rank]
        try:
            while True:
                kind, _, content = wire.receive()
                self.messages.put((rank, kind, content))
        except Gone:
            self.messages.put((rank, "gone", None))


def opened(placement: TrainerPlacement, log: Path) -> Service:
    """The trainer where `runtime.trainer` says."""
    return Inline() if placement.inline else Processes(placement, log)
