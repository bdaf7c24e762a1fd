"""Clients of one engine: none is lost, what is asked together is answered together, and who leaves costs nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator

import pytest

from racro.config import ScriptedReply
from racro.engines.local.scripted import ScriptedEngine
from racro.engines.protocol import EngineLost, Generation, Partial, Prompt, Refusal, Request, Sampling
from racro.serving.sharing import Left, Seat, Shared


class Slow(ScriptedEngine):
    """Repeats what it is asked, says half of it first, and works on a call until it may go on."""

    def __init__(self) -> None:
        super().__init__([ScriptedReply(when="(?s)^(.*)$", replies=("\\1",))])
        self.calls: list[int] = []
        self.go_on = threading.Event()
        self.closed = 0
        self.broken = False

    def stream(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal | Partial]:
        asked = list(requests)
        self.calls.append(len(asked))
        try:
            for made in super().generate(asked):
                while not self.go_on.wait(0.01):
                    yield Partial(made.key, "half")
                if self.broken:
                    raise EngineLost("gone")
                yield made
        finally:
            self.closed += 1


class Client(threading.Thread):
    """Asks one thing."""

    def __init__(self, shared: Shared, said: str) -> None:
        super().__init__(daemon=True)
        self.partial: list[str] = []
        self.tokens: list[tuple[int, int]] = []
        self.seat = Seat(shared, 100, lambda partial: self.partial.append(partial.text), self.tokens.append)
        self.said, self.got = said, ""
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        prompt = Prompt([{"role": "user", "content": self.said}])
        try:
            [made] = self.seat.generate([Request(7, prompt, Sampling(max_tokens=99), 0)])
            assert isinstance(made, Generation) and made.key == 7
            self.got = made.completions[0].text
        except BaseException as error:
            self.error = error


@pytest.mark.parametrize("gathers", [True, False])
def test_every_client_gets_its_own_answer(gathers: bool) -> None:
    engine = Slow()
    shared = Shared(engine, gathers, 8)
    clients = [Client(shared, f"number {i}") for i in range(20)]
    time.sleep(0.05)
    engine.go_on.set()
    for client in clients:
        client.join(20)
    assert [client.got for client in clients] == [f"number {i}" for i in range(20)]
    assert all(client.tokens == [(len(client.said), len(client.said) + 1)] for client in clients)
    assert sum(engine.calls) == 20
    assert max(engine.calls) == 8 if gathers else engine.calls == [1] * 20
    assert any(client.partial for client in clients)


@pytest.mark.parametrize("gathers", [True, False])
def test_a_call_that_nobody_waits_for_is_closed(gathers: bool) -> None:
    engine = Slow()
    client = Client(Shared(engine, gathers, 8), "x")
    while not client.partial:
        time.sleep(0.01)
    client.seat.leave()
    client.join(20)
    assert isinstance(client.error, Left)
    deadline = time.monotonic() + 20
    while not engine.closed and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine.closed == 1 and not engine.go_on.is_set()


def test_who_leaves_the_queue_is_not_asked_about() -> None:
    engine = Slow()
    shared = Shared(engine, True, 1)
    first = Client(shared, "first")
    while not first.partial:
        time.sleep(0.01)
    second, third = Client(shared, "second"), Client(shared, "third")
    second.seat.leave()
    second.join(20)
    engine.go_on.set()
    for client in (first, third):
        client.join(20)
    assert (first.got, third.got, engine.calls) == ("first", "third", [1, 1])


@pytest.mark.parametrize("gathers", [True, False])
def test_a_lost_engine_is_an_error_for_all_who_wait(gathers: bool) -> None:
    engine = Slow()
    engine.broken = True
    clients = [Client(Shared(engine, gathers, 8), "x") for _ in range(3)]
    engine.go_on.set()
    for client in clients:
        client.join(20)
    assert all(isinstance(client.error, EngineLost) for client in clients)
