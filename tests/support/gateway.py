"""A gateway to a server on this machine that can be closed: clients then find nobody, as when the server is away."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class Gateway:
    """Passes bytes on, in both directions, while it is open."""

    def __init__(self, port: int) -> None:
        self._to, self.closed = port, False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._connections: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Cut every connection, and all that come."""
        self.closed = True
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def open(self) -> None:
        """Pass on again."""
        self.closed = False

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.closed:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._to))
            self._connections |= {client, server}
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=[one, other], daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
        for connection in (one, other):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def gateway(port: int) -> Iterator[Gateway]:
    """A gateway to a port of this machine."""
    made = Gateway(port)
    try:
        yield made
    finally:
        made.close()
        made._listener.close()
