"""Messages between a worker's process and the process that started it: whole Python objects over a socket pair.

Each message is (kind, call, content):

    to the worker      generate   request Request   end   cancel   swap folder   sleep discard   close
    from the worker    result Generation|Refusal   want count   done   error exception   lost text   beat

Used on both sides, by `racro.engines.worker.client` and `racro.engines.worker.main`.
"""

from __future__ import annotations

import pickle
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
        data = pickle.dumps((kind, call, content), protocol=5)
        with self.lock:
            try:
                self.connection.send_bytes(data)
            except OSError as error:
                raise Gone from error

    def receive(self) -> tuple[str, int, Any]:
        """The next message. Raises Gone."""
        try:
            data = self.connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise Gone from error
        message: tuple[str, int, Any] = pickle.loads(data)
        return message

    def close(self) -> None:
        """Nothing can be sent or received any more."""
        with self.lock:
            self.connection.close()
