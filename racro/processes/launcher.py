"""Where does a program of ours run? On this machine, or on a node of a cluster (`racro.cluster.node`).

Engines and the trainer start their processes through a Machine, and do not know which one it is. Files travel only to
machines that do not see this one's.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import psutil  # type: ignore[import-untyped]

from racro.processes.child import Child, free_port, python
from racro.processes.wire import Wire

T = TypeVar("T")


class MachineLost(RuntimeError):
    """A machine that is gone, cannot be reached, or has no room. Another attempt may succeed."""


class Superseded(MachineLost):
    """Another process of the same run uses the machine's programs now."""


class Process(Protocol):
    """A running program, as `racro.processes.child.Child` has it."""

    @property
    def pid(self) -> int:
        """Its number on its machine."""

    def wait(self, seconds: float) -> int | None:
        """Exit status, negative for a signal; None if it still runs after so many seconds."""

    def last_words(self, lines: int = 5) -> str:
        """The last lines that it printed, joined into one."""

    def stop(self, patience: float = 5.0) -> None:
        """End it with everything that it started."""


class Started(NamedTuple):
    """A program, and the wire to it."""

    process: Process
    wire: Wire
    warm: bool = False
    """Did it run before, for another process of this run? It then holds what that one had it load."""


class Placed(NamedTuple):
    """A folder as a machine sees it."""

    path: str
    name: str
    """The same for the same content, for all that may ask a process what it holds."""


class Machine(ABC):
    """Starts programs, and says where files are for them. All methods may raise MachineLost."""

    address = "127.0.0.1"
    """Under which it is reached by others that it works with."""

    @abstractmethod
    def start(self, module: str, env: Mapping[str, str], log: Path, flags: Sequence[str] = ()) -> Started:
        """Run a module of ours; its only argument is the number of its end of the wire. `log` gets what it prints."""

    @abstractmethod
    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """The result of a function of ours that is called there."""

    @abstractmethod
    def folder(self, path: str) -> Placed:
        """A folder of this machine, which a program there is to read; empty: there is none."""

    @abstractmethod
    def output(self, path: str) -> str:
        """A folder for what a program there is to write into `path`, a folder of this machine."""

    @abstractmethod
    def collect(self, path: str) -> None:
        """What was written there for `path` is here when this returns."""


class ThisMachine(Machine):
    """The one that we are on."""

    def start(self, module: str, env: Mapping[str, str], log: Path, flags: Sequence[str] = ()) -> Started:
        """See Machine."""
        ours, theirs = socket.socketpair()
        with theirs:
            interpreter, safe, *rest = python(module, str(theirs.fileno()))
            child = Child([interpreter, safe, *flags, *rest], env=env, log=log, pass_fds=[theirs.fileno()])
        return Started(child, Wire(ours.detach()))

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """See Machine."""
        return function(*arguments)

    def folder(self, path: str) -> Placed:
        """See Machine."""
        return Placed(path, path)

    def output(self, path: str) -> str:
        """See Machine."""
        return path

    def collect(self, path: str) -> None:
        """See Machine."""


HERE = ThisMachine()


class Meeting(NamedTuple):
    """Where processes that train together find each other."""

    address: str
    port: int


def loopback() -> Meeting:
    """For processes of one machine."""
    return Meeting("127.0.0.1", free_port())


def interface(address: str) -> str | None:
    """The network interface of this machine that has an address."""
    found = (name for name, own in psutil.net_if_addrs().items() if any(one.address == address for one in own))
    return next(found, None)
