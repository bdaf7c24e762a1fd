"""The API over a real socket: what streams before it is complete, who waits, who is slow, and what nobody foresaw."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import httpx
import openai
import psutil
import pytest

from racro.serving import service
from racro.serving.completion import Completion
from racro.serving.limits import MIB, Limits
from tests.support.eventually import eventually
from tests.support.gated import CAPTION, WORDS, Served, question, served

ADDRESS = "/v1/chat/completions"


@pytest.fixture
def one() -> Iterator[Served]:
    """One place, none to wait, and little patience."""
    with served(Limits(concurrency=1, queue=0, upload=0.5, body=MIB)) as made:
        yield made


def connected(made: Served, sent: bytes) -> socket.socket:
    """A connection on which this was sent."""
    connection = socket.create_connection(("127.0.0.1", made.port), timeout=60)
    connection.sendall(sent)
    return connection


def request(body: bytes, length: int | None = None) -> bytes:
    """A question as HTTP has it."""
    head = f"POST {ADDRESS} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: "
    return f"{head}{len(body) if length is None else length}\r\n\r\n".encode() + body


def everything(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    found = b""
    while part := connection.recv(65536):
        found += part
    return found


def texts(stream: Any, field: str) -> Iterator[str]:
    """The pieces of a stream that a field has."""
    return (text for chunk in stream if chunk.choices and (text := getattr(chunk.choices[0].delta, field, None)))


def test_each_word_arrives_before_the_next_one_is_written(one: Served) -> None:
    with one.ask(stream=True) as stream:
        pieces = iter(stream)
        assert CAPTION in next(texts(pieces, "reasoning_content"))
        contents = texts(pieces, "content")
        for word in WORDS[:-1]:
            one.write(1)
            assert next(contents) == word
            assert one.engine.done == 0
        one.write(1)
        assert "".join(contents) == WORDS[-1]
    assert one.engine.done == 1 and one.idle()


def test_who_waits_in_line_hears_that_the_server_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "QUIET", 0.05)
    with served(Limits(concurrency=1)) as made, made.ask(stream=True) as first:
        next(texts(first, "reasoning_content"))
        with httpx.stream("POST", made.url + ADDRESS, json={**question(), "stream": True}, timeout=60) as second:
            lines = second.iter_lines()
            assert [line for line, _ in zip(lines, range(6), strict=False) if line] == [": working"] * 3
            assert made.engine.asked == 1, "its turn has not come"
            made.write(2 * len(WORDS))
            assert "".join(texts(first, "content")) == "".join(WORDS)
            assert "data: [DONE]" in [*lines]
        assert made.idle()


def test_half_a_request_holds_no_place_and_is_refused_in_time(one: Served) -> None:
    body = json.dumps(question()).encode()
    slow = [connected(one, request(body[:20], len(body))) for _ in range(5)]
    one.write()
    assert one.ask().choices[0].message.content == "".join(WORDS)
    for connection in slow:
        with closing(connection):
            head, _, said = everything(connection).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 408 ")
            error = json.loads(said)["error"]
            assert (error["type"], error["code"]) == ("invalid_request_error", "timeout")


def test_who_never_says_what_he_wants_is_not_waited_for(one: Served) -> None:
    for sent in (b"", b"GET /health HTT", b"GET /health HTTP/1.1\r\nX: 1\r\n"):
        with closing(connected(one, sent)) as connection:
            assert everything(connection) == b""
    with closing(connected(one, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")) as connection:
        assert b"200" in connection.recv(65536)
        time.sleep(1)  # an idle connection is kept longer than a slow one
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert b"200" in everything(connection)


def test_bodies_on_their_way_take_no_more_memory_than_the_queue_has_places_for() -> None:
    with served(Limits(concurrency=1, queue=0, upload=20, body=MIB)) as made:
        with closing(connected(made, request(b" " * (MIB - 1), MIB))):
            assert eventually(lambda: b"429" in whole(made), 15), "all is said, and it is too much"
        assert eventually(lambda: b"400" in whole(made), 15), "who has gone takes none"


def whole(made: Served) -> bytes:
    """The answer to a body that is as large as may be."""
    with closing(connected(made, request(b" " * MIB))) as connection:
        return connection.recv(65536)


def test_who_does_not_read_gives_the_place_back(one: Served) -> None:
    one.engine.words = ("long " * 4_000_000,)  # more than all buffers on the way
    body = json.dumps({**question(), "stream": True}).encode()
    with closing(socket.socket()) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", one.port))
        deaf.sendall(request(body))
        one.write(1)
        assert eventually(lambda: one.engine.done == 1, 60, 0.02) and one.idle()
        here = deaf.getsockname()[1]
        assert eventually(lambda: here not in peers(one.port), 30), "the connection is closed"
    one.engine.words = WORDS
    one.write()
    assert one.ask().choices[0].message.content == "".join(WORDS)


def peers(port: int) -> list[int]:
    """Ports of the clients whose connections to this one are open."""
    found = psutil.Process().net_connections("tcp")
    return [one.raddr.port for one in found if one.laddr.port == port and one.raddr]


def test_an_engine_that_dies_in_a_stream_ends_it_with_an_error(one: Served) -> None:
    with one.ask(stream=True) as stream:
        one.write(1)
        contents = texts(stream, "content")
        assert next(contents) == WORDS[0]
        one.engine.dies = True
        one.write(1)
        with pytest.raises(openai.APIError, match="is started again; try again") as lost:
            next(contents)
    assert "secret" not in str(lost.value.body)
    with httpx.stream("POST", one.url + ADDRESS, json={**question(), "stream": True}, timeout=60) as stream:
        one.engine.dies = True
        one.write(1)
        lines = [line for line in stream.iter_lines() if line]
    assert '"code":"engine_lost"' in lines[-2] and lines[-1] == "data: [DONE]"
    one.write()
    assert one.ask().choices[0].message.content == "".join(WORDS)
    assert one.idle()


def test_what_nobody_foresaw_is_an_error_without_places_and_in_the_log(
    one: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> Any:
        raise KeyError("/secret/place")

    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)
    monkeypatch.setattr(one.service.pairs, "captioners", broken)
    monkeypatch.setattr(Completion, "whole", broken)
    monkeypatch.setattr(Completion, "pieces", broken)
    for made in (
        lambda: httpx.get(f"{one.url}/v1/models"),
        lambda: httpx.post(one.url + ADDRESS, json=question(), timeout=60),
        lambda: httpx.post(one.url + ADDRESS, json={**question(), "stream": True}, timeout=60),
    ):
        one.write()
        caplog.clear()
        answer = made()
        [said] = [line for line in answer.text.splitlines() if "error" in line]
        error = json.loads(said.removeprefix("data: "))["error"]
        assert (error["type"], error["code"], error["param"]) == ("server_error", "internal_error", None)
        assert "secret" not in answer.text
        assert eventually(lambda: "/secret/place" in caplog.text and "Traceback" in caplog.text, 10)
    assert one.idle()


def test_one_address_asks_so_often_whatever_its_headers_say() -> None:
    with served(Limits(rate=2, body=MIB)) as made:
        for number in range(2):
            assert (
                httpx.post(made.url + ADDRESS, json={}, headers={"X-Forwarded-For": f"10.0.0.{number}"}).status_code
                == 400
            )
        big = {"messages": "x" * (MIB - 1000)}  # it reads why, although it still sends
        refused = httpx.post(made.url + ADDRESS, json=big, headers={"X-Forwarded-For": "10.0.0.9"})
        assert refused.status_code == 429 and refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        with pytest.raises(openai.RateLimitError, match="at most 2 a minute from one address"):
            made.ask()
        assert httpx.get(f"{made.url}/v1/models").status_code == 200, "what is no question is not counted"


def test_a_proxy_that_is_believed_says_who_asks() -> None:
    with served(Limits(rate=1), proxy="127.0.0.1") as made:
        for client, status in (("10.0.0.1", 400), ("10.0.0.2", 400), ("10.0.0.1", 429), ("6.6.6.6, 10.0.0.2", 429)):
            said = httpx.post(made.url + ADDRESS, json={}, headers={"X-Forwarded-For": client})
            assert said.status_code == status, client


def test_pages_of_other_sites_and_those_behind_a_proxy_reload_nothing(one: Served) -> None:
    for name in ("Origin", "X-Forwarded-For", "Forwarded"):
        assert httpx.post(f"{one.url}/admin/reload", headers={name: "x"}).status_code == 403
    assert httpx.post(f"{one.url}/admin/reload").json() == {"status": "reloaded"}


def test_who_leaves_while_waiting_frees_the_place(one: Served) -> None:
    one.service.limits = Limits(concurrency=1, queue=1)
    with one.ask(stream=True) as first:
        next(texts(first, "reasoning_content"))
        body = json.dumps({**question(), "stream": True}).encode()
        waiting = connected(one, request(body))
        assert eventually(lambda: one.service.inside == 2, 30, 0.02)
        waiting.close()
        assert eventually(lambda: one.service.inside == 1, 30, 0.02)
        one.write()
        assert "".join(texts(first, "content")) == "".join(WORDS)
    assert one.idle() and one.engine.asked == 1


def test_of_200_requests_from_16_clients_none_is_lost() -> None:
    with served(Limits(concurrency=4)) as made, ThreadPoolExecutor(16) as pool:
        made.write(200 * len(WORDS))
        got = list(pool.map(lambda _: made.ask().choices[0].message.content, range(200)))
        assert got == ["".join(WORDS)] * 200 and made.idle()
