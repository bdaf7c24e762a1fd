"""Algebra by math-verify, in worker processes that can be killed: the parent's side.

Sympy may need for ever and may need all memory, and neither an alarm nor a thread stops it safely. So each question
goes to a process with a limit on processor time and on memory; one that exceeds them is killed, and the question
failed. Processor time, not the clock: the verdict does not depend on what else the machine does.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from racro.grading.symbolic_main import FAILED
from racro.processes.child import Child, python

WORKERS = min(4, os.cpu_count() or 1)
WAIT = 60.0
"""Seconds on the clock, the start of a process included: for a machine that gives it no processor time at all."""


class GraderFailed(RuntimeError):
    """The grader ran out of time or memory over an answer: nothing is known about it."""


@lru_cache(65_536)
def equal(answer: str, found: str) -> bool:
    """Do two mathematical texts, in LaTeX or plain, say the same? Raises GraderFailed."""
    return bool(_pool.ask("equal", answer, found))


@lru_cache(65_536)
def value(text: str) -> float | None:
    """The value of an expression without variables; None where it has none. Raises GraderFailed."""
    found: float | None = _pool.ask("value", text)
    return found


class Worker:
    """One process. Calls one at a time."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = python("racro.grading.symbolic_main", str(theirs.fileno()))
            self._child = Child(command, log=Path(os.devnull), pass_fds=[theirs.fileno()])
        self._wire = Connection(ours.detach())

    def ask(self, request: tuple[str, ...]) -> Any:
        """What the process answers. Raises GraderFailed, after which it has ended."""
        try:
            self._wire.send(request)
            answer = self._wire.recv() if self._wire.poll(WAIT) else FAILED
        except (OSError, EOFError):
            answer = FAILED
        except BaseException:  # an interrupt between question and answer: the next answer would be to this question
            self.close()
            raise
        if answer == FAILED:
            self.close()
            raise GraderFailed(f"no verdict within the limits on {request[0]} of {request[1:]!r}")
        return answer

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):
            self._wire.close()
        self._child.stop(0)


class Pool:
    """At most WORKERS processes, started when they are needed. Any thread may ask."""

    def __init__(self) -> None:
        self._free = threading.BoundedSemaphore(WORKERS)
        self._idle: list[Worker] = []

    def ask(self, *request: str) -> Any:
        """What a process answers. Raises GraderFailed."""
        with self._free:
            try:
                worker = self._idle.pop()
            except IndexError:
                worker = self._start()
            answer = worker.ask(request)
            self._idle.append(worker)
            return answer

    def _start(self) -> Worker:
        try:
            return Worker()
        except OSError as error:  # no memory, no process, no file descriptor left
            raise GraderFailed(f"no process for algebra can be started: {error}") from error


_pool = Pool()


def _reset() -> None:
    """A process forked off this one has none of the workers: they would get the questions of both."""
    global _pool
    _pool = Pool()


os.register_at_fork(after_in_child=_reset)
