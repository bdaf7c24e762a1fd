"""Runs one command, and kills it with all its descendants when the process that asked for it ends for any reason.

    python -I -S supervisor.py PARENT SIGNAL COMMAND...

A separate program that imports only the standard library, so that it starts in milliseconds. Started by
`racro.processes.child` in a new session. Standard input is the lifeline: when it ends, or brings KILL, everything is
killed; ASK sends SIGNAL to the command. Standard output gets one line, the command's pid. Exits as the command did.
With another SIGNAL than SIGTERM, SIGTERM is ignored: it is then for the parent to decide, when it gets it too.

Why there is a process in between: PR_SET_PDEATHSIG fires when the *thread* that started the child ends, and engines are
started from short-lived threads. Here the main thread starts the command, and nothing else happens.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 4, 36
ASK, KILL = b"a", b"k"
LINUX = sys.platform == "linux"
CHECK = 1.0
"""Seconds between checks of the parent's pid: a process forked from the parent keeps the lifeline open."""


def main(parent: int, ask: int, command: list[str]) -> None:
    """Run `command` until it or the parent ends."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # descendants that left the group become our children when their parent dies
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    pid = start(command)
    os.write(1, f"{pid}\n".encode())
    os.dup2(2, 1)
    status = None
    while status is None:
        ready, _, _ = select.select([0, read], [], [], CHECK)
        said = os.read(0, 64) if 0 in ready else None
        if said == ASK:
            kill_group(pid, ask)
        elif said is not None or os.getppid() != parent:
            break
        if read in ready and set(os.read(read, 64)) != {signal.SIGCHLD} and ask == signal.SIGTERM:
            break
        status = reap(pid)
    leave(clear(pid, status))


def start(command: list[str]) -> int:
    """The command's pid, which is also its process group's."""
    supervisor = os.getpid()
    pid = os.fork()
    if pid:
        with contextlib.suppress(OSError):  # it may have run already, or ended
            os.setpgid(pid, pid)
        return pid
    try:
        os.setpgid(0, 0)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:
            os._exit(1)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error}\n".encode())
        os._exit(127)


def reap(pid: int) -> int | None:
    """Collect ended children. Returns the wait status of `pid` if it is among them."""
    status = None
    while True:
        try:
            ended, how = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if ended == 0:
            return status
        if ended == pid:
            status = how


def clear(pid: int, status: int | None) -> int:
    """Kill the group and all descendants that left it, and wait for them. Returns the wait status of `pid`."""
    kill_group(pid, signal.SIGKILL)
    while True:
        for child in children():
            kill(child)
        try:
            ended, how = os.waitpid(-1, 0)
        except ChildProcessError:
            return status or 0
        if ended == pid:
            status = how


def children() -> list[int]:
    """Direct children, adopted ones included."""
    if not LINUX:
        return []
    with open(f"/proc/self/task/{os.getpid()}/children") as stream:
        return [int(pid) for pid in stream.read().split()]


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # EPERM is macOS's word for a group of zombies
        os.killpg(pid, number)


def leave(status: int) -> None:
    """Exit with the command's status, or by its signal."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        prctl(PR_SET_DUMPABLE, 0)  # one core file is enough
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


def prctl(option: int, value: int) -> None:
    if LINUX:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
