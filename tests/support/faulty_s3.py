"""A proxy before an S3 server that for a while answers badly: errors, slowly, half, or not at all.

The client talks to it as to the server; signatures stay valid, since headers pass through as they are.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Kind = Literal["500", "503", "slow", "silent", "cut", "lost", "refused"]
"""slow: each answer takes a second; silent: none comes; cut: half of it comes, or half of a request is taken; lost: the
request is carried out, the answer is not sent; refused: the connection is closed at once."""

CODES = {"500": "InternalError", "503": "SlowDown"}


@dataclass
class Fault:
    """What goes wrong with requests that match, from the first of them for `seconds`."""

    kind: Kind
    at: re.Pattern[str]
    """Searched in `METHOD /path?query`."""
    seconds: float
    began: float | None = None
    hits: list[str] = field(default_factory=list)

    def strikes(self, request: str) -> bool:
        """Is this request hit?"""
        if not self.at.search(request):
            return False
        now = time.monotonic()
        self.began = self.began or now
        if now - self.began > self.seconds:
            return False
        self.hits.append(request)
        return True


class Proxy(ThreadingHTTPServer):
    """Before the server at `target`; listens on `url`."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.target = urlsplit(target).netloc
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.faults: list[Fault] = []
        self.ended = threading.Event()

    @contextlib.contextmanager
    def fault(self, kind: Kind, at: str = "", seconds: float = 1.5) -> Iterator[Fault]:
        """A fault while the context lasts; it must have struck."""
        fault = Fault(kind, re.compile(at), seconds)
        self.faults.append(fault)
        try:
            yield fault
            assert fault.hits, f"no request came to {at!r}"
        finally:
            self.faults.remove(fault)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up on a fault are what this is for."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def handle_any(self) -> None:
        """Pass a request on, or do what a fault says."""
        request = f"{self.command} {self.path}"
        kind = next((fault.kind for fault in list(self.server.faults) if fault.strikes(request)), None)
        length = int(self.headers.get("Content-Length") or 0)
        if kind == "refused" or (kind == "cut" and length):
            self.rfile.read(length // 2)
            self.close_connection = True
            return
        body = self.rfile.read(length)
        if kind == "silent":
            self.server.ended.wait(30)
            self.close_connection = True
        elif kind in CODES:
            self._answer(int(kind), {}, f"<Error><Code>{CODES[kind]}</Code><Message>ill</Message></Error>".encode())
        else:
            if kind == "slow":
                time.sleep(1)
            status, headers, content = self._pass_on(body)
            if kind == "lost":
                self.close_connection = True
            else:
                self._answer(status, headers, content, half=kind == "cut")

    def _pass_on(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.server.target, timeout=60)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("connection", "expect"):
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), content

    def _answer(self, status: int, headers: dict[str, str], content: bytes, half: bool = False) -> None:
        self.send_response_only(status)
        length = headers.pop("Content-Length", str(len(content)))  # of a HEAD it says more than is sent
        for name, value in headers.items():
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if half else content)
        self.close_connection = half

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any


@contextlib.contextmanager
def before(target: str) -> Iterator[Proxy]:
    """A proxy for as long as the context lasts."""
    proxy = Proxy(target)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.ended.set()
        proxy.shutdown()
        proxy.server_close()
