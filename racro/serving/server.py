"""The HTTP server around the API and the page: a thread with uvicorn, and clients that are too slow for it.

Called by `flows.cli.serving`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
from asyncio import Transport
from collections.abc import Callable, Iterator

import h11
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from racro.serving.api import failed
from racro.serving.errors import ApiError, invalid

GRACE, TELLING = 4, 1
"""Seconds for answers on their way when the server ends, and to tell the others."""
IDLE = 75
"""Seconds for which an idle connection stays open: longer than at clients and proxies (5 to 60), so that none of them
sends a request on one that is being closed here."""
START_DEADLINE = 60.0
HOME = re.compile(rb"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.IGNORECASE)
"""How browsers on this machine call it."""


class AtHome:
    """Refuses who calls this machine by another name: pages of other sites can make their name lead here."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        called = dict(scope.get("headers", ())).get(b"host", b"localhost")
        if scope["type"] != "http" or HOME.fullmatch(called):
            await self.app(scope, receive, send)
        else:
            message = "this server is for its own machine, by the name localhost; start it with --proxy or --api-key"
            await failed(ApiError(403, message, code="forbidden"))(scope, receive, send)


class Hurry:
    """Refuses a body that does not arrive in time, of whatever the page or the API reads."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app, self.seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        end = asyncio.get_running_loop().time() + self.seconds
        whole = late = answered = False

        async def hurried() -> Message:
            nonlocal whole, late
            try:
                async with asyncio.timeout_at(None if whole else end):
                    message = await receive()
            except TimeoutError:
                late = True
                return {"type": "http.disconnect"}
            whole = not message.get("more_body", False)
            return message

        async def heard(message: Message) -> None:
            nonlocal answered
            if not late:
                answered = True
                await send(message)

        try:
            await self.app(scope, hurried, heard)
        except Exception:  # what the app makes of a client that is gone
            if not late:
                raise
        if late and not answered:
            said = f"the body did not arrive within {self.seconds:g} s"
            await failed(invalid(said, code="timeout", status=408))(scope, receive, send)
        return None


@contextlib.contextmanager
def running(
    app: ASGIApp, host: str, port: int, patience: float, end: Callable[[], None], proxy: str = ""
) -> Iterator[None]:
    """The server in a thread: signals stay with the caller. Raises RuntimeError if it does not start.

    `patience`: seconds for a client to send a request's head, then its body, and to take what it is sent. `end`: called
    when answers on their way have had their time. `proxy`: address or network whose X-Forwarded-For is believed; empty:
    nobody's.
    """

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            asyncio.get_running_loop().call_later(GRACE, end)
            await super().shutdown(sockets)

    settings = uvicorn.Config(
        Hurry(app, patience),
        http=_impatient(patience),
        ws="none",
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxy),
        forwarded_allow_ips=proxy,
        timeout_graceful_shutdown=GRACE + TELLING,
        timeout_keep_alive=IDLE,
    )
    server = Server(settings)
    thread = threading.Thread(target=server.run, name="http", daemon=True)
    thread.start()
    waited = threading.Event()
    for _ in range(int(START_DEADLINE * 20)):
        if server.started or not thread.is_alive():
            break
        waited.wait(0.05)
    if not server.started:
        raise RuntimeError(f"the server did not start on {host}:{port}")
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(GRACE + TELLING + 5)


def _impatient(patience: float) -> type[H11Protocol]:
    """uvicorn's protocol (h11: it limits heads), which by itself waits for slow clients as long as they like."""

    class Impatient(H11Protocol):
        _sending: asyncio.TimerHandle | None = None
        _taking: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._expect()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._expect()

        def _expect(self) -> None:
            """Does the client owe a head, or the rest of a body that nobody reads any more?"""
            owed = self.conn.their_state is h11.IDLE or self.conn.our_state is h11.DONE
            if not owed and self._sending is not None:
                self._sending.cancel()
                self._sending = None
            elif owed and self._sending is None:
                self._sending = self.loop.call_later(patience, self.transport.abort)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._taking = self.loop.call_later(patience, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._taking is not None:
                self._taking.cancel()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            for timer in (self._sending, self._taking):
                if timer is not None:
                    timer.cancel()

    return Impatient
