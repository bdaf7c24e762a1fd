"""The program that stands for a command which `tests.support.forkserver` runs: no import that takes long."""

import array
import json
import os
import signal
import socket
import sys
import time

STATIONS = {"up", "ui", "worker"}
"""Commands that start what stays, as a tree of processes: an interpreter of their own."""
HARMLESS = {"-P", "-X", "faulthandler"}
"""Options of Python that a fork does without."""


def open_door(servers: "dict[str, str]", python: str, own: str) -> None:
    """Have a server run what was asked for, wait, and end as it does. What none runs is executed instead.

    servers: the socket of the server that runs a module.
    """
    name, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
    if name == "racro":
        arguments = ["-P", "-m", "flows.cli.main", *arguments]
    if name == "tester":
        arguments = ["-P", "-m", "tests.support.tester"]
    at = arguments.index("-m") + 1 if "-m" in arguments else 0
    server = servers.get(arguments[at], "") if at and set(arguments[: at - 1]) <= HARMLESS else ""
    if not os.path.exists(f"{server}.started") or STATIONS.intersection(arguments[at + 1 : at + 2]):
        os.execv(python, [own, *arguments])  # whose `sys.executable` is this door again
    numbers = [int(number) for number in os.listdir("/proc/self/fd")]
    streams = [number for number in numbers if os.path.exists(f"/proc/self/fd/{number}")]  # not the folder's
    content = json.dumps(
        {
            "module": arguments[at],
            "arguments": arguments[at + 1 :],
            "folder": os.getcwd(),
            "environment": dict(os.environ),
            "python": python if name == "tester" else own,  # tests say themselves what is to be forked
            "streams": streams,
        }
    ).encode()
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    end = time.monotonic() + 300
    while not os.path.exists(server) and time.monotonic() < end:  # it is importing
        time.sleep(0.05)
    door.connect(server)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: door.send(bytes([number])))
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", streams))
    door.sendmsg([len(content).to_bytes(8, "big")], [rights])
    door.sendall(content)
    status = int(door.recv(16) or -signal.SIGKILL)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    os._exit(status)
