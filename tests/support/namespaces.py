"""Machines on this one: each has an address, a name, processes, shared memory and a local disk of its own (Linux only).

They hang on a bridge that is in a namespace too: nothing of them is on the network of this machine, and no address can
be one that it has. The first process of each ends when its standard input does, a pipe from this process; the kernel
then kills all that run there and removes their network. So nothing stays, however the tests end. Files, clock and
kernel are those of this machine: a folder of it is a file system that all machines share.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.debian import required

NETWORK = "10.83.7"
INIT = ("sh", "-c", 'trap "" CHLD; echo; exec cat')
"""The first process of a namespace: says that it is there. The kernel takes away what ends in it."""
USER = () if os.geteuid() == 0 else ("user", "preserve-credentials")
"""Who is not root may make networks only in a namespace of users, where he is."""


class Namespaces:
    """New ones. Their file systems are this machine's, until something is mounted in them."""

    def __init__(self, *options: str, within: Sequence[str] = ()) -> None:
        """`within`: what a command begins with that is to run in those around it. Raises PermissionError."""
        self.kinds = ("net", "uts", "ipc", "mount", "pid")
        made = [*options, *(f"--{kind}" for kind in self.kinds), "--fork", "--mount-proc", "--kill-child"]
        self.init = subprocess.Popen(
            [*within, "unshare", *made, *INIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.init.stdout is not None and self.init.stderr is not None
        if not self.init.stdout.readline():
            raise PermissionError(self.init.stderr.read().decode().strip())
        self.pid = _last(self.init.pid)
        """Of the first process, as it is seen from here."""

    def command(self, *command: str, kinds: Sequence[str] | None = None) -> list[str]:
        """What runs a command in them; or in those of some kinds, and otherwise here."""
        entered = (*USER, *(self.kinds if kinds is None else kinds))
        return ["nsenter", "--target", str(self.pid), *(f"--{kind}" for kind in entered), *command]

    def script(self, lines: str, kinds: Sequence[str] | None = None) -> None:
        """Run a shell script in them."""
        done = subprocess.run(self.command("sh", "-ec", lines, kinds=kinds), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def end(self) -> None:
        """Kill all that runs in them."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.init.communicate()


class Machine(Namespaces):
    """A machine of a laboratory. Its disk is a folder that this machine has too, empty."""

    def __init__(self, laboratory: Namespaces, disk: Path, number: int) -> None:
        super().__init__(within=laboratory.command(kinds=("mount", "pid")))
        self.laboratory, self.disk, self.number = laboratory, disk, number
        self.address = f"{NETWORK}.{number}"
        self.cable = f"""
            ip link add to-{number} type veth peer name eth0 netns {self.pid}
            ip link set to-{number} master switch up"""
        laboratory.script(self.cable, kinds=("net",))
        # As on Debian, its name stands for an address of its own loopback; it knows no names of others.
        self.script(f"""
            hostname machine-{number}
            ip link set lo up
            ip address add {self.address}/24 dev eth0
            ip link set eth0 up
            ip route add default via {NETWORK}.254
            mount -t tmpfs tmpfs {disk}
            mount -t tmpfs tmpfs /dev/shm
            printf '127.0.0.1 localhost\\n127.0.1.1 machine-{number}\\n' > {disk}/hosts
            mount --bind {disk}/hosts /etc/hosts""")

    def start(self, *command: str, **how: Any) -> subprocess.Popen[str]:
        """A program that runs until its machine ends; what is returned are its pipes.

        It is no child of a process outside: that one would be stopped with it, and the kernel wait for both.
        """
        return subprocess.Popen(self.command("setsid", "--fork", *command), text=True, **how)

    def environment(self, **more: str) -> dict[str, str]:
        """Of a command: what this process has, without servers that it knows, and with folders of the machine."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT", "MLFLOW"))}
        own = {"HOME": str(self.disk), "TMPDIR": str(self.disk), "RACRO_HOME": str(self.disk / "racro")}
        return kept | own | more

    def processes(self) -> dict[int, str]:
        """What runs, beside the first process: number here, and command."""
        own, found = os.readlink(f"/proc/{self.pid}/ns/pid"), {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has just ended
                if os.readlink(process / "ns" / "pid") == own:
                    found[int(process.name)] = (process / "cmdline").read_text().replace("\0", " ")
        del found[self.pid]
        return found

    def freeze(self) -> None:
        """Nothing runs until it is thawed, as on a virtual machine that is paused; its network answers."""
        self._tell(signal.SIGSTOP)

    def thaw(self) -> None:
        """See freeze."""
        self._tell(signal.SIGCONT)

    def cut_off(self) -> None:
        """End as by a power cut: nobody is told."""
        self.laboratory.script(f"ip link delete to-{self.number}", kinds=("net",))
        self.end()

    def _tell(self, number: int) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


class Laboratory:
    """Machines, while the context lasts."""

    def __init__(self) -> None:
        """Skips the test where namespaces may not be made; as root in CI it fails."""
        required(lambda: shutil.which("ip"), "iproute2")
        try:
            self.around = Namespaces(*(("--user", "--map-root-user") if USER else ()))
        except PermissionError as error:
            must = os.environ.get("CI") == "true" and not USER
            (pytest.fail if must else pytest.skip)(f"no namespaces may be made here: {error}")
        self.made = 0

    def __enter__(self) -> Laboratory:
        bridge = f"""
            ip link add switch type bridge
            ip address add {NETWORK}.254/24 dev switch
            ip link set switch up"""
        self.around.script(bridge, kinds=("net",))
        self.disk = Path(tempfile.mkdtemp(prefix="racro-"))  # short: Ray's sockets are in it
        return self

    def __exit__(self, *_: object) -> None:
        self.around.end()
        self.disk.rmdir()

    def machine(self) -> Machine:
        """One more."""
        self.made += 1
        return Machine(self.around, self.disk, self.made)


def _last(pid: int) -> int:
    """The last of a chain of processes that have one child each."""
    while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        pid = int(children[0])
    return pid
