"""Prefetching changes when something is computed, never what."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro.config import ScriptedReply
from racro.engines.local.scripted import ScriptedEngine
from racro.engines.prefetcher import Prefetcher
from racro.engines.protocol import Engine, EngineLost, Generation, Prompt, Refusal, Request, Sampling
from tests.support.asking import answers, generations

SAMPLING = Sampling(max_tokens=50)


class Counting(ScriptedEngine):
    """The scripted engine, with a list of what it was asked. It refuses texts with a z."""

    def __init__(self) -> None:
        super().__init__([ScriptedReply(when=r"(?s)^([^z]*)$", replies=(r"re: \1",))])
        self.asked: list[str] = []

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        for request in requests:
            self.asked.append(repr((request.prompt.messages, request.sampling, request.seed)))
            yield from super().generate([request])


def prompt(text: str) -> Prompt:
    return Prompt([{"role": "user", "content": [{"type": "text", "text": text}]}])


def request(text: str, sampling: Sampling = SAMPLING, seed: int = 0) -> Request:
    return Request(0, prompt(text), sampling, seed)


words = st.lists(st.text("abz", min_size=1, max_size=2), max_size=8)


@given(early=words, wanted=words, calls=st.integers(1, 4))
def test_answers_are_those_of_the_engine_and_each_question_is_asked_once(
    early: list[str], wanted: list[str], calls: int
) -> None:
    engine = Counting()
    prefetcher = Prefetcher(lambda: engine, calls)
    prefetcher.prefetch(map(request, early))
    asked = ([prompt(word) for word in wanted], SAMPLING, [0] * len(wanted))
    assert answers(prefetcher, *asked) == answers(Counting(), *asked)
    assert len(engine.asked) == len(set(engine.asked))


def test_another_seed_or_sampling_is_another_question() -> None:
    engine = Counting()
    prefetcher = Prefetcher(lambda: engine, 1)
    prefetcher.prefetch([request("a"), request("a", seed=1), request("a", Sampling(max_tokens=2))])
    [short] = generations(prefetcher, [prompt("a")], Sampling(max_tokens=2), [0])
    assert len(short.completions[0].token_ids) == 2
    generations(prefetcher, [prompt("a")] * 2, SAMPLING, [0, 1])
    assert len(engine.asked) == 3


def test_prefetching_does_not_wait_for_the_engine() -> None:
    opened = threading.Event()

    def start() -> Engine:
        opened.wait(10)
        return Counting()

    prefetcher = Prefetcher(start, 1)
    prefetcher.prefetch([request("a")])  # returns although the engine is not open yet
    opened.set()
    assert generations(prefetcher, [prompt("a")], SAMPLING, [0])[0].completions[0].text == "re: a"


def test_what_failed_in_the_background_is_asked_again() -> None:
    class Failing(Counting):
        def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
            if not self.asked:
                self.asked.append("failed")
                raise ConnectionError("the first call fails")
            yield from super().generate(requests)

    engine = Failing()
    prefetcher = Prefetcher(lambda: engine, 1)
    assert isinstance(prefetcher.submit(request("a")).exception(timeout=10), ConnectionError)
    assert generations(prefetcher, [prompt("a")], SAMPLING, [0])[0].completions[0].text == "re: a"


def test_an_engine_that_does_not_start_fails_whoever_wants_the_answer() -> None:
    def start() -> Engine:
        raise EngineLost("no such luck")

    prefetcher = Prefetcher(start, 1)
    assert isinstance(prefetcher.submit(request("a")).exception(timeout=10), EngineLost)
    assert prefetcher.lost
    with pytest.raises(EngineLost, match="no such luck"):
        list(prefetcher.generate([request("a")]))


def test_an_engine_that_forgets_a_request_is_an_error() -> None:
    class Forgetful(Counting):
        def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
            yield from super().generate(list(requests)[1:])

    prefetcher = Prefetcher(Forgetful, 1)
    with pytest.raises(EngineLost, match="did not answer everything"):
        list(prefetcher.generate([request("a")]))


def test_closing_does_not_wait_for_an_engine_that_is_being_opened() -> None:
    """Ctrl-C while vLLM loads a model for minutes."""
    begun, loaded, closed = threading.Event(), threading.Event(), threading.Event()

    class Slow(Counting):
        def close(self) -> None:
            closed.set()

    def start() -> Engine:
        begun.set()
        assert loaded.wait(60)
        return Slow()

    prefetcher = Prefetcher(start, 1)
    prefetcher.prefetch([request("a")])
    assert begun.wait(60)
    prefetcher.close()
    assert not loaded.is_set()
    loaded.set()
    assert closed.wait(60), "the thread that opened it closes it"
    never = Prefetcher(Counting, 1)
    never.close()
    with pytest.raises(EngineLost, match="closed before it was open"):
        never.open()
