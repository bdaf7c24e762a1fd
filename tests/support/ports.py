"""A port that no other program gets until the server that is meant for it starts."""

from __future__ import annotations

import socket


class Reserved:
    """A TCP port of the loopback interface, bound from now on and not listened on."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]

    def release(self) -> int:
        """Free the port for the server that is about to start, and return it."""
        self._socket.close()
        return self.number
