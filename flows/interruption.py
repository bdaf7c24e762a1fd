"""Ctrl-C, SIGTERM and SIGHUP end a command alike: in order while a flow runs, otherwise at once, with one line.

SIGTERM is what Slurm, systemd and `docker stop` send, SIGHUP comes when a terminal closes. Outside of a flow nothing
needs an orderly end, because child processes end with this one (`racro.processes.child`); so the command leaves from
the signal handler. Python code could turn an exception there, in the middle of an import, into any other.
Called by `flows.cli` and `flows.sweep_child`. Imports nothing but the standard library.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LINE = "racro: interrupted; the same command goes on where it stopped"
IMPATIENT = 3
"""So many signals end the command at once, whatever it is doing."""
AGAIN = 0.1
"""Seconds after which a signal that a finalizer swallowed is sent again."""

_received: list[int] = []
_depth = 0
"""Contexts of `orderly` that are open."""


def install() -> None:
    """Handle the signals from now on, except those that are ignored (`nohup`, background jobs)."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _handle)
    sys.unraisablehook = _unraisable


def received() -> bool:
    """Was there a signal?"""
    return bool(_received)


@contextlib.contextmanager
def orderly() -> Iterator[None]:
    """In this context a signal raises KeyboardInterrupt, so that everything open is closed."""
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1


def leave() -> NoReturn:
    """Say that the command was interrupted, and end with the signal's exit status: 130 for Ctrl-C, 143 for SIGTERM."""
    with contextlib.suppress(OSError):
        os.write(2, f"\r{LINE}\n".encode() if os.isatty(2) else f"{LINE}\n".encode())
    os._exit(128 + _received[0])


def wait(ready: str) -> None:
    """Print that the command is ready, and return at the first signal: its regular end from then on."""
    with contextlib.suppress(KeyboardInterrupt), orderly():
        print(ready, flush=True)
        threading.Event().wait()
    _received.clear()


def _handle(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    if _depth == 0 or len(_received) >= IMPATIENT:
        leave()
    raise KeyboardInterrupt


def _unraisable(dropped: sys.UnraisableHookArgs) -> None:
    """An exception that Python drops, because a finalizer raised it. If a signal came there, it is sent again."""
    error = dropped.exc_value
    number = getattr(error, "signal", None)  # of Prefect's TerminationSignal
    if isinstance(error, KeyboardInterrupt) and _received:
        number = _received.pop()
    if number is None:
        sys.__unraisablehook__(dropped)
    else:  # from another thread, because here it would be dropped once more
        threading.Timer(AGAIN, os.kill, (os.getpid(), number)).start()


def end() -> NoReturn:
    """As `leave`, once everything is closed."""
    _flush()
    leave()


def finish() -> NoReturn:
    """End a command that is done, although threads may still work.

    Python's own end stops them inside of torch, which then aborts the process.
    """
    atexit._run_exitfuncs()
    _flush()
    os._exit(0)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
