"""A node of the cluster as a machine on which our programs run: the driver's side of `racro.cluster.agent`."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from racro.cluster import files
from racro.cluster.session import NoCluster, Session, session, version
from racro.cluster.wire import ActorWire
from racro.config import RayCluster, Runtime
from racro.identity import digest
from racro.processes.child import free_port, joined
from racro.processes.launcher import Machine, MachineLost, Meeting, Placed, Started, Superseded
from racro.processes.wire import Wire

T = TypeVar("T")
ANSWER = 60.0
"""Seconds within which an actor answers what takes no time."""
DROP = 10.0
"""Seconds for room to be given back."""
KILLED = -int(signal.SIGKILL)
"""The status of a program whose node is lost."""
RETRY = 2.0
"""Seconds before another actor is tried in the place of one that did not start."""
NOTICE = 10.0
"""Seconds of waiting for room after which a line says so."""

logger = logging.getLogger(__name__)


class Group:
    """Room on the cluster for the copies of a role."""

    def __init__(self, runtime: Runtime, role: str, copies: int, gpus: int, *settings: BaseModel) -> None:
        """`gpus`: of each copy, if the cluster has any and the runtime wants them. `settings`: what programs there are
        started for; those for the same settings are kept.

        Raises NoCluster, MachineLost.
        """
        assert isinstance(runtime.cluster, RayCluster)
        self.cluster, self.role, self.copies = runtime.cluster, role, copies
        self.session = session(self.cluster)
        if runtime.device.startswith("cuda") and not self.session.has_gpus:
            raise NoCluster(
                f"runtime.device: {runtime.device}: no node of the cluster has a GPU; leave it auto, or cpu"
            )
        bundle = {"CPU": self.cluster.cpus, **self.cluster.resources.get(role, {})}
        self.gpus = gpus if runtime.device != "cpu" and self.session.has_gpus else 0
        """Of each copy."""
        if self.gpus:
            bundle["GPU"] = float(self.gpus)
        self.bundle = bundle
        known = digest([role, _as_read(runtime), version(), *map(_as_read, settings)])
        self._keeper("open", self.session.id, role, known, [bundle] * copies, self.cluster.strategy)

    @property
    def over(self) -> bool:
        """Is the keeper lost, or is another process using it? Then nothing can be opened here any more."""
        return self.session.lost

    def _keeper(self, method: str, *arguments: Any) -> Any:
        try:
            return self.session.ask(getattr(self.session.keeper, method), *arguments)
        except MachineLost:
            self.session.lost = True
            raise

    def node(self, copy: int, deadline: float, fresh: bool = False) -> Node:
        """The node of a copy, as soon as there is room. `fresh`: with nothing that ran there before."""
        own, until = self.cluster, time.monotonic() + deadline
        limit = int(own.cache * 2**30)
        while True:
            self._wait(deadline)
            agent = self._keeper("agent", self.session.id, self.role, copy, fresh, own.scratch, limit)
            try:
                return Node(self.session, agent, deadline)
            except Superseded:
                raise
            except MachineLost:  # Ray may take some seconds to see that a node is dead, and place on it meanwhile
                if time.monotonic() > until:
                    raise
            time.sleep(RETRY)
            fresh = True

    def drop(self) -> None:
        """Give the room back. A role that is opened afterwards may need it."""
        if not self.session.lost:
            with contextlib.suppress(Exception):  # the lease does it too
                self.session.ask(self.session.keeper.drop, self.session.id, self.role, seconds=DROP)

    def _wait(self, deadline: float) -> None:
        begun, said = time.monotonic(), False
        while not self._keeper("ready", self.role):
            waited = time.monotonic() - begun
            if waited > deadline:
                raise MachineLost(
                    f"the cluster has no room for {self.copies} times {self.bundle} (runtime.{self.role}) within "
                    f"{deadline:g} s"
                )
            if waited > NOTICE and not said:
                logger.info("waiting for room on the cluster: %d times %s for %s", self.copies, self.bundle, self.role)
                said = True


def _as_read(section: BaseModel) -> BaseModel:
    """As it comes out of a file: a default of 3600 and a 3600.0 that was read are the same."""
    return type(section).model_validate_json(section.model_dump_json())


class Node(Machine):
    """A node, by the actor that we have there."""

    def __init__(self, session: Session, agent: Any, deadline: float) -> None:
        self.session, self.agent = session, agent
        about = session.ask(agent.about, seconds=deadline)
        self.id, self.address = about.node, about.address
        self.outputs: dict[str, str] = {}
        """Where programs write, by the folder of this machine that it is for."""
        if about.version != version():
            raise NoCluster(f"node {self.address} has racro {about.version}, not {version()}; install the same there")

    def start(self, module: str, env: Mapping[str, str], log: Path, flags: Sequence[str] = ()) -> Started:
        """See Machine."""
        pid, warm = self._ask("start", self.session.id, module, dict(env), tuple(flags), seconds=ANSWER)
        return Started(Remote(self, pid, log), cast(Wire, ActorWire(self.session, self.agent)), warm)

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """See Machine."""
        found: T = self._ask("call", function, arguments)
        return found

    def folder(self, path: str) -> Placed:
        """See Machine."""
        if not path:
            return Placed("", "")
        folder = Path(path)
        name = files.digest_of(folder)
        found = None if self._copied else self._ask("find", path, name)
        if found is None:
            begun = time.monotonic()
            pieces = self.session.pieces(folder, name)
            found = self._ask("fetch", name, pieces)
            files.count(sum(piece.bytes for piece in pieces), time.monotonic() - begun)
        return Placed(found, name)

    def output(self, path: str) -> str:
        """See Machine."""
        mark = Path(path) / f".racro-{uuid.uuid4().hex[:8]}"
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        try:
            self.outputs[path] = self._ask("output", path, None if self._copied else mark.name)
        finally:
            mark.unlink()
        return self.outputs[path]

    def collect(self, path: str) -> None:
        """See Machine."""
        if (there := self.outputs.pop(path)) == path:
            return
        begun = time.monotonic()
        pieces = self._ask("taken", there)
        files.write_pieces(Path(path), pieces)
        files.count(sum(piece.bytes for piece in pieces), time.monotonic() - begun)

    def meeting(self) -> Meeting:
        """Where the processes of a trainer meet whose first is here."""
        return Meeting(self.address, self.call(free_port, self.address))

    def kill(self) -> None:
        """End the actor, and with it what it started."""
        import ray

        with contextlib.suppress(Exception):  # it is gone
            ray.kill(self.agent)

    @property
    def _copied(self) -> bool:
        return self.session.cluster.files == "copied"

    def _ask(self, method: str, *arguments: Any, seconds: float = float("inf")) -> Any:
        return self.session.ask(getattr(self.agent, method), *arguments, seconds=seconds)


class Remote:
    """A program on a node, as `racro.processes.launcher.Process`."""

    def __init__(self, node: Node, pid: int, log: Path) -> None:
        """`log`: gets what the program printed, when it is stopped."""
        self.node, self.pid, self.log = node, pid, log
        self.said: bytes | None = None
        """The end of what it printed, after it was stopped."""

    def wait(self, seconds: float) -> int | None:
        """See Process."""
        try:
            status: int | None = self.node._ask("wait", seconds, seconds=seconds + ANSWER)
            return status
        except MachineLost:
            return KILLED

    def last_words(self, lines: int = 5) -> str:
        """See Process."""
        if self.said is not None:
            return joined(self.said, lines)
        try:
            return str(self.node._ask("last_words", lines, seconds=ANSWER))
        except MachineLost as error:
            return str(error)

    def stop(self, patience: float = 5.0) -> None:
        """See Process. The actor ends too."""
        if self.said is not None:
            return
        try:
            self.said = self.node._ask("stop", patience, seconds=patience + ANSWER)
        except Exception as error:  # its node is lost, and what it printed with it
            self.said = f"{type(error).__name__}: {error}".encode()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as stream:
            stream.write(self.said)
        self.node.kill()
