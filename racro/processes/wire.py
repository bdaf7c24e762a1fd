"""Messages between a process of ours and the one that started it: whole Python objects over a socket pair.

Each message is (kind, call, content). Those of an engine's process:

    to the worker      start   attach   generate name   stream name   request Request   end   cancel   swap Placed
                       sleep discard   close
    from the worker    result Generation|Refusal|Partial   want count   done   error exception   lost text   beat

and a process of the trainer gets commands of `racro.training.host.Host`. Used on both sides, by
`racro.engines.worker` and `racro.training`. Processes on other machines are spoken to in the same way
(`racro.cluster.wire`).
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import threading
from multiprocessing.connection import Connection
from typing import Any

AHEAD = 256
"""Requests of a call that are sent before the engine reads them; not more, because decoded images are large."""


class Gone(Exception):
    """The other side of the wire has ended."""


class Wire:
    """One end of a socket pair. Any thread may send whole messages; one thread receives."""

    def __init__(self, fd: int) -> None:
        self.connection = Connection(fd)
        self.lock = threading.Lock()

    def send(self, kind: str, call: int = 0, content: Any = None) -> None:
        """Raises Gone, and what pickle raises for contents that cannot be sent."""
        self.send_bytes(pickle.dumps((kind, call, content), protocol=5))

    def send_bytes(self, data: bytes) -> None:
        """Send a message that is pickled already. Raises Gone."""
        with self.lock:
            try:
                self.connection.send_bytes(data)
            except OSError as error:
                raise Gone from error

    def receive(self) -> tuple[str, int, Any]:
        """The next message. Raises Gone."""
        message: tuple[str, int, Any] = pickle.loads(self.receive_bytes())
        return message

    def receive_bytes(self) -> bytes:
        """The next message, pickled. Raises Gone."""
        try:
            return self.connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise Gone from error

    def hang_up(self) -> None:
        """Senders and receivers on both sides get Gone."""
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self.connection.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Nothing can be sent or received any more."""
        with self.lock:
            self.connection.close()
