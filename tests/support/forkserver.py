"""Commands for the price of their own work: a server imports the libraries once and forks for each command.

Most of what a short `racro` command costs is imports: torch, transformers, Prefect, MLflow. Tests type hundreds of
commands. The child of a fork runs a module as `python -P -m` does, with the caller's folder, environment and standard
streams. What the caller starts is a small program, the door (`tests/support/door.py`): it waits for the child, passes
signals on and ends as the child ends. If the door is killed, so is the child.

Libraries have read the environment when they were imported: Prefect reads it again in each child, Hugging Face's do
not. Not for tests of the start itself, of process trees, or of signals at early moments: these start an interpreter.
Run as a program, this file is the server: `python -P forkserver.py SOCKET OWNER SHARED LIBRARY...`.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import fcntl
import functools
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from racro.config import EnginePlacement
from racro.engines.vllm.environment import environment as of_vllm
from tests.support.preloading import LIBRARIES, VLLM

COMMANDS, ENGINES = "forked-commands", "forked-engines"
MODULES = {
    "flows.cli.main": COMMANDS,
    "flows.station.prefect_server": COMMANDS,
    "flows.sweep_child": COMMANDS,
    "prefect": COMMANDS,
    "prefect.engine": COMMANDS,
    "racro.training.rank": COMMANDS,
    "tests.support.killing": COMMANDS,
    "tests.support.tester": COMMANDS,
    "racro.engines.worker.main": ENGINES,
    "vllm.entrypoints.openai.api_server": ENGINES,
}
"""What is run by which server. The door gives everything else to a new interpreter, as it does if the server is not
started."""
STATE = ("PREFECT", "MLFLOW", "RACRO", "HF_", "MPL", "XDG")
"""Beginnings of the variables that a user who set nothing does not have."""
DOOR = Path(__file__).with_name("door.py")


def serve(path: str, owner: int, shared: str, libraries: list[str]) -> None:
    """Until the process `owner` ends. shared: the folder of the test run."""
    from flows.station import local
    from tests.support import preloading

    local.settle()  # what libraries write when they are imported goes where it goes in a command
    preloading.load(libraries, Path(shared))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(f"{path}.new")
    listener.listen(64)
    os.rename(f"{path}.new", path)
    doors = selectors.DefaultSelector()
    doors.register(listener, selectors.EVENT_READ)
    read, write = os.pipe()
    for end in (read, write):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    doors.register(read, selectors.EVENT_READ)
    children: dict[int, socket.socket] = {}
    while Path(f"/proc/{owner}").exists():
        for key, _ in doors.select(1.0):
            if key.fileobj is listener:
                door, _ = listener.accept()
                pid = fork(door)
                children[pid] = door
                doors.register(door, selectors.EVENT_READ, pid)
            elif key.data:
                pass_on(doors, key.fileobj, key.data)
            else:
                with contextlib.suppress(BlockingIOError):
                    os.read(read, 1024)
        collect(doors, children)
    for pid in children:
        end(pid)


def pass_on(doors: selectors.BaseSelector, door: Any, pid: int) -> None:
    """A door's signals to its child; SIGKILL if the door is gone."""
    try:
        numbers = door.recv(64)
    except ConnectionError:
        numbers = b""
    if not numbers:
        doors.unregister(door)
        end(pid)
    for number in numbers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def end(pid: int) -> None:
    """Kill a child and the processes that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def collect(doors: selectors.BaseSelector, children: dict[int, socket.socket]) -> None:
    """Tell the doors of ended children how these ended."""
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        if door := children.pop(pid, None):
            end(pid)
            with contextlib.suppress(OSError):
                door.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            with contextlib.suppress(KeyError):
                doors.unregister(door)
            door.close()


def fork(door: socket.socket) -> int:
    """The pid of a new child, which never returns from here."""
    content, streams = request(door)
    pid = os.fork()
    if pid:
        for stream in streams.values():
            os.close(stream)
        return pid
    signal.set_wakeup_fd(-1)
    code = 1
    try:
        os.setsid()
        for number, stream in streams.items():
            streams[number] = fcntl.fcntl(stream, fcntl.F_DUPFD, 512)  # out of the way of the numbers to be
        os.closerange(0, 512)
        for number, stream in streams.items():
            os.dup2(stream, number)
        os.closerange(512, 1024)
        code = become(**content)
    finally:
        os._exit(code)


def request(door: socket.socket) -> tuple[dict[str, Any], dict[int, int]]:
    """What a door asks for; and its open files, by their numbers there."""
    streams = array.array("i")
    first, extra, _, _ = door.recvmsg(8, socket.CMSG_SPACE(32 * streams.itemsize))
    for _level, _kind, sent in extra:
        streams.frombytes(sent)
    size = int.from_bytes(first, "big")
    content = b""
    while len(content) < size:
        content += door.recv(size - len(content))
    asked = json.loads(content)
    return asked, dict(zip(asked.pop("streams"), streams, strict=True))


def become(module: str, arguments: list[str], folder: str, environment: dict[str, str], python: str) -> int:
    """Run the module as the main program. Returns its exit status."""
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.executable = python
    sys.argv = [module, *arguments]
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    from racro import environment as variables

    variables.apply()
    if module.partition(".")[0] == "prefect":
        importlib.import_module("prefect")  # runpy reads the code of what it runs, and this appears late
        sys.modules.pop(module if "." in module else f"{module}.__main__", None)
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except (Exception, KeyboardInterrupt):  # shown as an interpreter shows it
        sys.excepthook(*sys.exc_info())
        code = 1
    leave()
    return code


def leave() -> None:
    """What an interpreter does at its end, except to take everything down, which takes seconds."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


class Doors(NamedTuple):
    """Programs that do what those of the same names do, but through the server."""

    python: Path
    racro: Path
    tester: Path


def doors(folder: Path, servers: Path) -> Doors:
    """The doors to the servers of a folder, made in another folder, which looks like an environment to Python."""
    (folder / "bin").mkdir()
    (folder / "lib").symlink_to(Path(sys.prefix, "lib"))
    (folder / "pyvenv.cfg").write_bytes(Path(sys.prefix, "pyvenv.cfg").read_bytes())
    made = Doors(*(folder / "bin" / name for name in Doors._fields))
    sockets = {module: str(servers / name) for module, name in MODULES.items()}
    for door in made:
        opened = f"open_door({sockets!r}, {sys.executable!r}, {str(made.python)!r})"
        door.write_text(f"#!{sys.executable} -IS\n{DOOR.read_text()}\n{opened}\n")
        door.chmod(0o755)
    return made


def start(
    server: Path, folder: Path, environment: Mapping[str, str] | None = None, libraries: Iterable[str] = LIBRARIES
) -> subprocess.Popen[bytes]:
    """A server at a socket. `environment`: what the libraries read; None: ours.

    It ends with the first of the test processes: each of the others may crash and be replaced.
    """
    server.with_suffix(".started").touch(exist_ok=False)
    command = [sys.executable, "-P", __file__, str(server), os.environ[OWNER], os.environ[SHARED], *libraries]
    return subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL)


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str


def run(
    commands: Sequence[Sequence[str]],
    work: Path,
    environment: Mapping[str, str],
    inputs: Mapping[int, str] = MappingProxyType({}),
    libraries: Iterable[str] = (),
) -> list[Done]:
    """Each `racro` command in turn, in the folder `work`.

    inputs: what a command, by its number, reads from standard input. libraries: what has to be imported in this
    environment, by a server for these commands alone.
    """

    def each(racro: Path) -> list[Done]:
        return [typed(racro, one, work, environment, inputs.get(i, "")) for i, one in enumerate(commands)]

    if not libraries:
        return each(shared().racro)
    with tempfile.TemporaryDirectory(prefix="forks-") as folder:
        server = start(Path(folder) / COMMANDS, work, environment, libraries)
        try:
            return each(doors(Path(folder), Path(folder)).racro)
        finally:
            server.kill()
            server.wait()


def typed(racro: Path, arguments: Sequence[str], work: Path, environment: Mapping[str, str], given: str = "") -> Done:
    """A `racro` command, to its end."""
    done = subprocess.run(
        [racro, *arguments], cwd=work, env=environment, input=given, capture_output=True, text=True, timeout=1000
    )
    return Done(done.returncode, done.stdout, done.stderr)


SHARED, OWNER = "RACRO_TESTS_FORKS", "RACRO_TESTS_OWNER"
"""Variables with the folder that all test processes share, and the first one's pid; set by conftest."""
_started: list[subprocess.Popen[bytes]] = []


@functools.cache
def shared() -> Doors:
    """Doors to the servers that all test processes share; the first that needs one starts it."""
    folder = Path(os.environ[SHARED])
    with contextlib.suppress(FileExistsError):
        _started.append(start(folder / COMMANDS, folder))
    own = folder / str(os.getpid())
    own.mkdir()
    return doors(own, folder)


@contextlib.contextmanager
def children(engines: bool = False) -> Iterator[None]:
    """Within, processes that this one starts are forked; `engines`: those of engines too."""
    folder, own = Path(os.environ[SHARED]), shared().python
    if engines:
        variables = of_vllm(EnginePlacement(), cpu=True)
        with contextlib.suppress(FileExistsError):
            _started.append(start(folder / ENGINES, folder, os.environ | variables, VLLM))
    before, sys.executable = sys.executable, str(own)
    try:
        yield
    finally:
        sys.executable = before


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:])
