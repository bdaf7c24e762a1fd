"""Messages to and from a program on another node, through the actor that started it.

A drop-in for `racro.processes.wire.Wire`: the same messages, carried by calls of the actor.
"""

from __future__ import annotations

import logging
import pickle
import queue
import threading
from collections import deque
from typing import Any

from racro.cluster.session import Session, first_line
from racro.processes.wire import Gone

WAITING = 64 * 2**20
"""Bytes that wait to be sent, beyond which who sends must wait."""
PAUSE = 10.0
"""Seconds that the actor waits for something to say, each time."""

logger = logging.getLogger(__name__)


class ActorWire:
    """One end. Any thread may send; one thread receives."""

    def __init__(self, session: Session, agent: Any) -> None:
        self.session, self.agent = session, agent
        self.changed = threading.Condition()
        """Guards and announces what is to be sent."""
        self.outgoing: deque[bytes] = deque()
        self.gone = False
        self.incoming: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        """None at the end."""
        for work in (self._send, self._receive):
            threading.Thread(target=work, name="cluster-wire", daemon=True).start()

    def send(self, kind: str, call: int = 0, content: Any = None) -> None:
        """See Wire."""
        self.send_bytes(pickle.dumps((kind, call, content), protocol=5))

    def send_bytes(self, data: bytes) -> None:
        """See Wire."""
        with self.changed:
            self.changed.wait_for(lambda: self.gone or sum(map(len, self.outgoing)) < WAITING)
            if self.gone:
                raise Gone
            self.outgoing.append(data)
            self.changed.notify_all()

    def receive(self) -> tuple[str, int, Any]:
        """See Wire."""
        message: tuple[str, int, Any] = pickle.loads(self.receive_bytes())
        return message

    def receive_bytes(self) -> bytes:
        """See Wire."""
        data = self.incoming.get()
        if data is None:
            raise Gone
        return data

    def hang_up(self) -> None:
        """See Wire. What has been sent before arrives."""
        with self.changed:
            self.gone = True
            self.changed.notify_all()
        self.incoming.put(None)

    def close(self) -> None:
        """See Wire."""
        self.hang_up()

    def _send(self) -> None:
        """In a thread: all that waits, in one call after the other."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.gone or self.outgoing)
                messages = list(self.outgoing)
                if not messages:
                    return
            try:
                self.session.ask(self.agent.send, self.session.id, messages)
            except Exception as error:
                self._lost(error)
                return
            with self.changed:
                for _ in messages:
                    self.outgoing.popleft()
                self.changed.notify_all()

    def _receive(self) -> None:
        """In a thread."""
        ended = False
        while not (ended or self.gone):
            try:
                messages, ended = self.session.ask(self.agent.receive, self.session.id, PAUSE)
            except Exception as error:
                self._lost(error)
                return
            for message in messages:
                self.incoming.put(message)
        self.hang_up()

    def _lost(self, error: Exception) -> None:
        if not self.gone:
            logger.warning("%s", first_line(error))
        self.hang_up()
