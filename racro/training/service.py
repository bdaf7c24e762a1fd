"""The trainer, alive from iteration to iteration: in the run's own process, or in one process for each GPU.

Both kinds take the same commands (`racro.training.host`). Several processes end together: if one is lost or fails, all
are, and the stage begins again from the last state. Opened by `tasks.running.trainer`. Loads torch on use.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from racro import imports
from racro.config import Runtime, TrainerPlacement
from racro.processes.child import ending
from racro.processes.launcher import HERE, Machine, MachineLost, Meeting, Process, Superseded, interface, loopback
from racro.processes.wire import Gone, Wire
from racro.training.failures import TrainerLost, let_go

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
START = 900.0
"""Seconds within which there must be room for them on a cluster."""
WRITING = ("export", "save")
"""Commands that write into a folder."""


class Service(ABC):
    """A trainer that can be told what to do. `policy`: what it holds. `earlier`: what it remembers beside."""

    def __init__(self) -> None:
        self.policy: str | None = None
        self.earlier: str | None = None
        """The policy before the last update, if its weights were kept."""
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
        self,
        expected: str,
        becomes: str,
        work: Plan,
        images_base: str,
        step: int,
        progress: Progress,
        keep: bool = False,
    ) -> dict[str, float]:
        """See `racro.training.host.Host.update`."""
        self.policy = self.earlier = None
        command = (expected, becomes, work, images_base, step, keep)
        metrics: dict[str, float] = self._do("update", *command, progress=progress)
        self.policy, self.earlier = becomes, expected if keep else None
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
        except BaseException as error:  # raised again: what is half done must not stay in memory
            self.policy = None
            let_go(error)
            self.host.rest()
            raise


class Processes(Service):
    """One process for each GPU, or as many as `runtime.trainer.processes` says on CPUs."""

    def __init__(
        self,
        placement: TrainerPlacement,
        log: Path,
        machines: Sequence[Machine] = (),
        meeting: Callable[[], Meeting] = loopback,
        left: Callable[[], None] = lambda: None,
    ) -> None:
        """Start them. `log`: what they print, one file for all.

        `machines`: of each process, by rank; empty: all are on this one. `meeting`: where they find each other.
        `left`: called when all have ended.
        """
        super().__init__()
        self.log, self.meeting, self.left = log, meeting(), left
        self.messages: queue.SimpleQueue[tuple[int, str, Any]] = queue.SimpleQueue()
        self.machines = list(machines) or [HERE] * placement.world
        self.children: list[Process] = []
        self.wires: list[Wire] = []
        try:
            for rank, machine in enumerate(self.machines):
                child, wire, _ = machine.start("racro.training.rank", self._environment(placement, rank), log)
                self.children.append(child)
                self.wires.append(wire)
                threading.Thread(target=self._read, args=(rank,), name=f"trainer-{rank}", daemon=True).start()
        except BaseException:  # raised again: those that have started would wait for the others
            self.close()
            raise

    def _environment(self, placement: TrainerPlacement, rank: int) -> dict[str, str]:
        """What torchrun would set, and which GPUs; numbers as nvidia-smi counts them."""
        found = {
            "RANK": str(rank),
            "WORLD_SIZE": str(placement.world),
            "MASTER_ADDR": self.meeting.address,
            "MASTER_PORT": str(self.meeting.port),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        }
        machine = self.machines[rank]
        if machine is not HERE:  # each process sees its own GPU alone, as number 0
            own = machine.call(interface, machine.address)
            return found | {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"} | ({"GLOO_SOCKET_IFNAME": own} if own else {})
        found |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(placement.world)}
        if placement.gpus:
            gpus = ",".join(map(str, placement.gpus))
            return found | {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": gpus}
        return found | {"GLOO_SOCKET_IFNAME": "lo"}

    @property
    def pids(self) -> list[int]:
        """Of the processes, by rank."""
        return [child.pid for child in self.children]

    def close(self) -> None:
        """See Service."""
        self.closed, self.policy = True, None
        for wire in self.wires:
            wire.hang_up()
        for child in self.children:
            child.stop(PATIENCE)
        self.children, self.wires = [], []
        self.left()

    def _do(self, command: str, *arguments: Any, progress: Progress | None = None) -> Any:
        """Have all processes do it; what the first returns. Raises TrainerLost, and what any of them raises."""
        if not self.wires:
            raise TrainerLost("the trainer was closed")
        try:
            with contextlib.suppress(Gone):  # then its reader says so
                for machine, wire in zip(self.machines, self.wires, strict=True):
                    wire.send(command, content=_as_seen(machine, command, arguments))
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
            if command in WRITING:
                for machine in self.machines:
                    machine.collect(str(arguments[1]))
            return answers[0]
        except MachineLost as error:
            self.close()
            raise TrainerLost(str(error)) from error
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


def _as_seen(machine: Machine, command: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a command with its folders as a machine sees them."""
    if command == "begin":
        training, start, policy = arguments
        initial = Path(machine.folder(str(training.initial)).path)
        begun = Path(machine.folder(str(start)).path) if start else None
        return replace(training, initial=initial), begun, policy
    if command in WRITING:
        expected, folder = arguments
        return expected, Path(machine.output(str(folder)))
    return arguments


def opened(runtime: Runtime, log: Path) -> Service:
    """The trainer where `runtime` says."""
    placement = runtime.trainer
    if runtime.cluster.type == "ray":
        return on_cluster(runtime, log)
    return Inline() if placement.inline else Processes(placement, log)


def on_cluster(runtime: Runtime, log: Path) -> Processes:
    """One process for each rank, on nodes of the cluster. Raises TrainerLost, NoCluster."""
    from racro.cluster.node import RETRY, Group

    placement, until = runtime.trainer, time.monotonic() + START
    while True:
        try:
            group = Group(runtime, "trainer", placement.world, 1, placement)
            nodes = [group.node(rank, START, fresh=True) for rank in range(placement.world)]
            return Processes(placement, log, nodes, nodes[0].meeting, group.drop)
        except MachineLost as error:  # Ray may place on a node that is lost, until it has seen that this one is
            if isinstance(error, Superseded) or time.monotonic() > until:
                raise TrainerLost(str(error)) from error
        time.sleep(RETRY)
