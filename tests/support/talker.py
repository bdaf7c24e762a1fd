"""A small server that speaks the chat-completions protocol and does what a test tells it: answers, errors, silence."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from racro.engines.protocol import Engine, Generation, Prompt, Request, Sampling

Reply = tuple[int, dict[str, str], bytes] | None
"""Status, headers, body; None: no answer, ever."""


class Talker(ThreadingHTTPServer):
    """Answers every prompt with its own last text, unless `reply` says otherwise."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(
        self,
        reply: Callable[[dict[str, Any], int], Reply] | None = None,
        *,
        vllm: bool = False,
        models: tuple[str, ...] = ("m",),
        listing: Reply = None,
        port: int = 0,
    ) -> None:
        """`reply`: to a request's body, of which this is the i-th. `listing`: instead of the list of models."""
        super().__init__(("127.0.0.1", port), Handler)
        self.reply = reply or (lambda body, i: said(last_text(body)))
        card = {"object": "model", "owned_by": "vllm" if vllm else "somebody"}
        self.listing = listing or (200, {}, json.dumps({"data": [{"id": m, **card} for m in models]}).encode())
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.flying = self.most = self.left = 0
        self.lock = threading.Lock()
        self.dead = threading.Event()
        self.connections: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self.thread = threading.Thread(target=lambda: self.serve_forever(0.02), daemon=True)
        self.thread.start()

    def die(self) -> None:
        """As a killed process: the port is closed, connections are reset."""
        self.dead.set()
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are no news."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Talker

    def setup(self) -> None:
        super().setup()
        self.server.connections.append(self.connection)

    def do_GET(self) -> None:
        if self.path == "/metrics":
            tokens = len(self.server.asked) - self.server.flying
            self.send((200, {}, f'vllm:generation_tokens_total{{engine="0"}} {tokens}\n'.encode()))
        else:
            self.send(self.server.listing)

    def do_POST(self) -> None:
        talker = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with talker.lock:
            i = len(talker.asked)
            talker.asked.append(body)
            talker.headers.append(dict(self.headers))
            talker.flying += 1
            talker.most = max(talker.most, talker.flying)
        try:
            reply = talker.reply(body, i)
            if reply is None:
                self.connection.settimeout(0.02)
                while not talker.dead.is_set():
                    with contextlib.suppress(TimeoutError):
                        if self._gone():
                            with talker.lock:
                                talker.left += 1
                            break
                self.close_connection = True
        finally:
            with talker.lock:
                talker.flying -= 1
        if reply is not None:
            self.send(reply)

    def _gone(self) -> bool:
        """Has the client closed the connection? Raises TimeoutError while it has not."""
        try:
            return self.connection.recv(1) == b""
        except ConnectionError:
            return True

    def send(self, reply: Reply) -> None:
        assert reply is not None
        status, headers, body = reply
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def last_text(body: dict[str, Any]) -> str:
    """The text of the last message, which is a string to servers of text models."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def said(text: str | None, finish_reason: str = "stop", usage: dict[str, int] | None = None, **message: Any) -> Reply:
    """A chat completion."""
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text, **message}}
    return 200, {}, json.dumps({"choices": [choice], "usage": usage}).encode()


def spoken_by(model: Engine) -> Callable[[dict[str, Any], int], Reply]:
    """Replies with what a model writes, as an endpoint of that model would."""

    def reply(body: dict[str, Any], i: int) -> Reply:
        how = Sampling(temperature=body["temperature"], max_tokens=body["max_tokens"])
        messages = [{**one, "content": [{"type": "text", "text": one["content"]}]} for one in body["messages"]]
        [made] = model.generate([Request(0, Prompt(messages), how, body["seed"])])
        assert isinstance(made, Generation)
        return said(made.completions[0].text, made.completions[0].finish_reason)

    return reply


def refused(status: int, message: str, **headers: str) -> Reply:
    """An error as OpenAI words it."""
    return status, headers, json.dumps({"error": {"message": message, "code": status}}).encode()
