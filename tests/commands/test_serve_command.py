"""`racro serve` as clients have it: the official library, raw requests good and bad, many at once, a killed engine.

One server for all tests, with the captioner in a worker process, so that it can be killed. The page is tested in
`test_serve_page`.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import psutil
import pytest

from racro.embedded import world
from tests.support.served import KEY, Served, png

PROBLEMS = [problem for problem in world.generate("heldout", 0, 40) if len(problem.scenes) == 1][:16]
PICTURE = png(PROBLEMS[0].images()[0])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    options = ["--api-key", KEY, "--no-page", "--concurrency", "4", "--queue", "80", "--max-body", "1"]
    with Served(tmp_path_factory.mktemp("serve"), *options, worker=True) as server:
        yield server


@pytest.fixture(scope="module")
def client(served: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key=KEY, max_retries=0, timeout=300)


def messages(problem: world.BarProblem) -> Any:
    images = [f"data:image/png;base64,{png(image)}" for image in problem.images()]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in images]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": problem.question}]}]


def raw(served: Served, content: Any, **headers: str) -> httpx.Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    head = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", **headers}
    return httpx.post(f"{served.url}/v1/chat/completions", content=body, headers=head, timeout=300)


def error(response: httpx.Response) -> tuple[int, dict[str, Any]]:
    said = response.json()["error"]
    assert set(said) == {"message", "type", "param", "code"}
    assert not re.search(r"/(tmp|home|root|usr|work|etc/passwd)\b", said["message"]), "no path of this machine"
    return response.status_code, said


# --- the official client ----------------------------------------------------------------------------------------------


def test_the_models_are_pairs(client: openai.OpenAI, served: Served) -> None:
    names = [model.id for model in client.models.list()]
    assert names == ["racro", "racro:initial", "racro:mine"]
    assert client.models.retrieve("racro:mine").id == "racro:mine"


def test_an_answer_has_its_parts_and_its_price(client: openai.OpenAI) -> None:
    problem = PROBLEMS[0]
    made = client.chat.completions.create(model="racro", messages=messages(problem), temperature=0)
    [choice] = made.choices
    parts = made.model_extra["racro"]  # type: ignore[index]
    assert parts["final"] == problem.answer and f"\\boxed{{{problem.answer}}}" in str(choice.message.content)
    thoughts = choice.message.model_extra["reasoning_content"]  # type: ignore[index]
    assert thoughts == f"Caption:\n{parts['caption']}\n\nTentative answer:\n{parts['attempt']}"
    assert choice.finish_reason == "stop" and made.usage is not None
    assert made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens > 100
    again = client.chat.completions.create(model="racro:mine@embedded", messages=messages(problem), temperature=0)
    assert again.choices[0].message.content == choice.message.content, "the same pair by its whole name"


def test_a_stream_says_the_same_as_the_whole(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "racro", "messages": messages(PROBLEMS[1]), "seed": 3}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    thoughts = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    assert thoughts == whole.choices[0].message.model_extra["reasoning_content"]  # type: ignore[index]
    kinds = ["content" if delta.content else "thoughts" for delta in deltas[1:-1]]
    assert kinds == sorted(kinds, reverse=True), "everything else comes before the answer"
    assert chunks[-1].usage == whole.usage and chunks[-2].choices[0].finish_reason == "stop"


def test_limits_of_tokens_are_honoured_or_refused(client: openai.OpenAI) -> None:
    short = client.chat.completions.create(model="racro", messages=messages(PROBLEMS[0]), max_tokens=2)
    assert short.choices[0].finish_reason == "length" and short.usage is not None
    assert short.usage.completion_tokens == 6, "two of each text"
    with pytest.raises(openai.BadRequestError, match="max_tokens is at most 512 here"):
        client.chat.completions.create(model="racro", messages=messages(PROBLEMS[0]), max_tokens=100_000)


# --- raw requests -----------------------------------------------------------------------------------------------------


def test_the_key_is_asked_for(served: Served) -> None:
    for head in ({"Authorization": "Bearer wrong"}, {"Authorization": KEY}, {"Authorization": ""}):
        status, said = error(raw(served, {}, **head))
        assert (status, said["code"]) == (401, "invalid_api_key")
    assert httpx.post(f"{served.url}/admin/reload").status_code == 401
    assert httpx.get(f"{served.url}/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"[" * 50_000, 400, "invalid_json"),
        (b" " * 1_100_000, 413, "request_too_large"),
        ({"messages": [{"role": "user", "content": "no image"}]}, 400, None),
        ({"model": "gpt", "messages": messages(PROBLEMS[0])}, 404, "model_not_found"),
        ({"model": "racro:../../etc", "messages": messages(PROBLEMS[0])}, 404, "model_not_found"),
        ({"model": "racro:policy", "messages": messages(PROBLEMS[0])}, 404, "model_not_found"),
        ({"model": "racro@other", "messages": messages(PROBLEMS[0])}, 404, "model_not_found"),
        ({"model": "racro:gone", "messages": messages(PROBLEMS[0]), "stream": True}, 404, "model_not_found"),
    ],
)
def test_a_wrong_request_has_its_status(served: Served, content: Any, status: int, code: str | None) -> None:
    got, said = error(raw(served, content))
    assert (got, said["code"]) == (status, code), said


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("data:image/png;base64," + base64.b64encode(b"text").decode(), 400, "invalid_image"),
        ("data:image/png;base64," + PICTURE[: len(PICTURE) // 2 // 4 * 4], 400, "invalid_image"),
        ("data:image/svg+xml;base64," + base64.b64encode(b"<svg xmlns='x'/>").decode(), 415, "invalid_image"),
        ("http://127.0.0.1:1/a.png", 400, "invalid_image_url"),
        ("http://169.254.169.254/latest/meta-data", 400, "invalid_image_url"),
        ("file:///etc/passwd", 400, "invalid_image_url"),
    ],
)
def test_a_hostile_image_costs_its_request(served: Served, url: str, status: int, code: str) -> None:
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What?"}]
    got, said = error(raw(served, {"messages": [{"role": "user", "content": parts}]}))
    assert (got, said["code"]) == (status, code)


def test_other_types_addresses_and_methods_are_refused(served: Served) -> None:
    assert error(raw(served, {}, **{"Content-Type": "text/plain"}))[0] == 415
    assert error(httpx.get(f"{served.url}/v1/nothing"))[0] == 404
    assert error(httpx.get(f"{served.url}/v1/chat/completions"))[0] == 405
    cross = raw(served, {}, Origin="http://elsewhere")
    assert not any(name.startswith("access-control") for name in cross.headers)


def test_it_listens_on_this_machine_only(served: Served) -> None:
    port = urlsplit(served.url).port
    listening = [
        one.laddr.ip for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr.port == port
    ]
    assert listening == ["127.0.0.1"]


# --- many, slow, gone -------------------------------------------------------------------------------------------------


def test_of_many_requests_none_is_lost(client: openai.OpenAI) -> None:
    def ask(number: int) -> tuple[str, str]:
        problem = PROBLEMS[number % len(PROBLEMS)]
        made = client.chat.completions.create(model="racro", messages=messages(problem), temperature=0)
        return problem.uid, str(made.choices[0].message.content)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(64)))
    assert len(answers) == 64 and len({*answers}) == len(PROBLEMS), "the same question has the same answer"


def test_who_leaves_or_never_finishes_holds_nobody_up(served: Served, client: openai.OpenAI) -> None:
    place = served.url.removeprefix("http://").split(":")
    body = json.dumps({"messages": messages(PROBLEMS[0]), "stream": True}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    slow = [socket.create_connection((place[0], int(place[1]))) for _ in range(6)]
    for connection in slow[:3]:
        connection.sendall(head + body[:10])  # and never the rest
    for connection in slow[3:]:
        connection.sendall(head + body)
        connection.close()  # before the answer
    assert client.chat.completions.create(model="racro", messages=messages(PROBLEMS[2]), max_tokens=4).choices
    for connection in slow:
        connection.close()

    def idle() -> bool:
        metrics = httpx.get(f"{served.url}/metrics").text
        return "racro_running 0.0" in metrics and "racro_waiting 0.0" in metrics

    served.until(idle)


def test_a_connection_outlives_the_time_for_which_clients_keep_it(served: Served) -> None:
    address = urlsplit(served.url)
    assert address.hostname is not None
    with contextlib.closing(http.client.HTTPConnection(address.hostname, address.port, timeout=60)) as connection:
        for pause in (0, 6):  # httpx keeps one for five seconds
            time.sleep(pause)
            connection.request("GET", "/health")
            assert json.loads(connection.getresponse().read()) == {"status": "ok"}


def test_a_killed_engine_is_an_error_and_then_it_is_back(served: Served, client: openai.OpenAI) -> None:
    [worker, *_] = served.workers()
    got: list[str | openai.APIStatusError] = []

    def ask() -> None:
        try:
            made = client.chat.completions.create(model="racro", messages=messages(PROBLEMS[0]), temperature=0)
            got.append(str(made.choices[0].message.content))
        except openai.APIStatusError as failed:
            got.append(failed)

    os.kill(worker.pid, signal.SIGSTOP)  # so that all are in flight when it dies
    clients = [threading.Thread(target=ask) for _ in range(8)]
    for thread in clients:
        thread.start()
    time.sleep(0.5)
    os.kill(worker.pid, signal.SIGKILL)
    for thread in clients:
        thread.join(300)
    failed = [one for one in got if not isinstance(one, str)]
    assert len(got) == 8 and failed
    assert {one.status_code for one in failed} == {503}
    assert all("is started again; try again" in str(one) for one in failed)
    made = client.chat.completions.create(model="racro", messages=messages(PROBLEMS[0]), temperature=0)
    assert f"\\boxed{{{PROBLEMS[0].answer}}}" in str(made.choices[0].message.content)
    assert not psutil.pid_exists(worker.pid) or worker.status() == psutil.STATUS_ZOMBIE


def test_a_reload_leaves_answers_as_they_are(served: Served, client: openai.OpenAI) -> None:
    reloaded = httpx.post(f"{served.url}/admin/reload", headers={"Authorization": f"Bearer {KEY}"}, timeout=300)
    assert reloaded.json() == {"status": "reloaded"}
    assert client.chat.completions.create(model="racro:mine", messages=messages(PROBLEMS[0])).choices


def test_a_signal_ends_it_tidily(served: Served) -> None:
    """The last test: nothing answers after it."""
    workers = served.workers()
    assert served.end() == 0
    assert "Traceback" not in served.said
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)
