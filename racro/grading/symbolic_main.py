"""The program in a grader's worker process: compares and evaluates mathematical texts by math-verify and sympy.

    python -m racro.grading.symbolic_main FD

Not for import beyond its constants; the other side is `racro.grading.symbolic`. FD is its end of a socket pair.
Requests are ("equal", gold, found) and ("value", text). What takes more than SECONDS of processor time ends the
process: the kernel does it, whatever library the time is spent in.
"""

from __future__ import annotations

import logging
import resource
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

SECONDS = 2.0
"""Of processor time, for one question."""
MEMORY = 2 * 2**30
"""Bytes of address space."""
FAILED = "failed"


def main(fd: int) -> None:
    """Answer questions until the other end is gone."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.disable(logging.CRITICAL)
    wire = Connection(fd)
    from racro.grading import algebra  # after the limits are set

    answers: dict[str, Callable[..., Any]] = {"equal": algebra.equal, "value": algebra.value}
    while True:
        try:
            kind, *texts = wire.recv()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # SIGPROF's default action ends the process
        answer: Any
        try:
            answer = answers[kind](*texts)
        except (MemoryError, RecursionError, OverflowError):
            answer = FAILED
        signal.setitimer(signal.ITIMER_PROF, 0)
        wire.send(answer)


if __name__ == "__main__":
    main(int(sys.argv[1]))
