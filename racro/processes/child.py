"""Child processes that never outlive this one, however it ends, and leave no processes behind when they are stopped.

Not an engine: it knows commands, logs and signals. Every process that this project starts for itself is started here:
engines, graders, servers, workers, children of sweeps. Chain: this process --(lifeline)--> `supervisor.py` --> the
command's process group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from racro.processes.supervisor import ASK, KILL

SITE = Path(__file__).parent / "site"
"""On every child's PYTHONPATH; see its sitecustomize."""
SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""Python then does not put the working directory on `sys.path`, where a user's own `flows` or `tasks` would hide ours.
By the environment too: children start Python processes that we do not see."""
SUPERVISOR = Path(__file__).with_name("supervisor.py")
TAIL = 16 * 1024
"""Bytes at the end of the log in which the last words are looked for."""
DEATH = 60.0
"""Seconds within which SIGKILL must have worked: freeing a GPU's memory takes some."""


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module in this Python, and imports nothing from the working directory."""
    return [sys.executable, "-P", "-m", module, *arguments]


class Child:
    """A running command with all processes that it starts."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        log: Path,
        pass_fds: Sequence[int] = (),
        ask: int = signal.SIGTERM,
    ) -> None:
        """Start it. Its output is appended to `log`; `env` is added to this process's environment.

        `ask`: the signal that asks the command to end. With another one than SIGTERM, a SIGTERM for all processes of a
        job, as Slurm and systemd send it, ends the child only when this process stops it; the command must ignore it.
        May be called from any thread. A command that cannot be executed ends with status 127.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join(filter(None, (str(SITE), os.environ.get("PYTHONPATH"))))
        with log.open("ab") as stream:
            self._log, self._start = log, stream.tell()
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", str(SUPERVISOR), str(os.getpid()), str(int(ask)), *command],
                env={**os.environ, **SAFE_PATH, "PYTHONPATH": path, **(env or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                pass_fds=tuple(pass_fds),
                start_new_session=True,
                bufsize=0,
            )
        assert self._supervisor.stdin is not None and self._supervisor.stdout is not None
        self._lifeline = self._supervisor.stdin
        with self._supervisor.stdout as said:
            pid = said.read()
        self.pid = int(pid or self._supervisor.pid)
        """The command's pid, which is also the number of its process group."""

    def poll(self) -> int | None:
        """Exit status of the command, negative for a signal; None while it runs."""
        return self._supervisor.poll()

    def wait(self, seconds: float) -> int | None:
        """Like `poll`, but waits for the end for up to this long."""
        try:
            return self._supervisor.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def wait_until(self, ready: Callable[[], bool], seconds: float, pause: float = 0.1) -> bool:
        """Ask `ready` again and again until it is true; False if the command ends before that.

        Raises TimeoutError after so many seconds.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.poll() is not None:
                return False
            if ready():
                return True
            time.sleep(pause)
        raise TimeoutError(f"not ready after {seconds:g} s")

    def last_words(self, lines: int = 5) -> str:
        """The last lines written to the log since the start, joined into one line, for error messages."""
        with self._log.open("rb") as stream:
            stream.seek(max(self._start, stream.seek(0, os.SEEK_END) - TAIL))
            return joined(stream.read(), lines)

    def stop(self, patience: float = 5.0) -> None:
        """Stop it with everything that it started: `ask`, then SIGKILL after `patience` seconds. May be called twice.

        Returns when all have ended. Raises subprocess.TimeoutExpired if not even SIGKILL helps.
        """
        if patience > 0 and self.poll() is None:
            self._tell(ASK)
            self.wait(patience)
        self._tell(KILL)
        self._supervisor.wait(DEATH)
        self._lifeline.close()

    def _tell(self, what: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ValueError):  # it has ended; and was stopped before
            self._lifeline.write(what)


def joined(printed: bytes, lines: int) -> str:
    """The last lines that are not empty, in one."""
    written = printed.decode(errors="replace").splitlines()
    return " | ".join([line.strip() for line in written if line.strip()][-lines:])


def ending(status: int) -> str:
    """An exit status in words."""
    return f"killed by signal {-status}" if status < 0 else f"exit status {status}"


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A TCP port of the loopback interface that nobody gets but a server that sets SO_REUSEADDR, as asyncio's do.

    Only Linux lets two sockets be bound to a port of which none listens. Elsewhere it is `free_port`.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        if sys.platform != "linux":
            held.close()
        yield port


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port of an address of this machine that is free now. Another process may take it before you do."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port
