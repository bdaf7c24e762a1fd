"""The program of one of several processes that train together.

    python -m racro.training.rank FD

Started by `racro.training.service` with the environment that torchrun gives (RANK, WORLD_SIZE, MASTER_ADDR ...). FD is
its end of a socket pair; a message is a command of `racro.training.host.Host` with its arguments. Its output goes to
the log.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

from racro import imports
from racro.engines.worker.main import first_line, leave, portable
from racro.processes.wire import Gone, Wire

with imports.quick():
    from racro.training.host import Host


def main(fd: int) -> None:
    """Obey the other end of `fd` until it is gone."""
    os.set_inheritable(fd, False)
    wire, host = Wire(fd), Host()

    def progress(done: int, total: int) -> None:
        wire.send("progress", content=(done, total))

    try:
        while True:
            command, call, arguments = wire.receive()
            wire.send("done", call, run(host, command, arguments, progress))
    except Gone:
        leave(1)
    except BaseException as error:
        traceback.print_exception(error)
        if portable(error):
            wire.send("error", content=error)
        else:
            wire.send("lost", content=f"failed: {type(error).__qualname__}: {first_line(error)}")
        leave(1)  # the others wait for it in vain: they are ended by who started them all


def run(host: Host, command: str, arguments: tuple[Any, ...], progress: Any) -> Any:
    """One command."""
    if command == "update":
        arguments = (*arguments, progress)
    return getattr(host, command)(*arguments)


if __name__ == "__main__":
    main(int(sys.argv[1]))
