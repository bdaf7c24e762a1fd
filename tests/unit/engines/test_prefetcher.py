"""Asking ahead: changes when something is computed, never what."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro.config import ScriptedReply
from racro.engines.local.scripted import ScriptedEngine
from racro.engines.prefetcher import Ahead
from racro.engines.protocol import Engine, EngineLost, Generation, Prompt, Sampling
from racro.prompts import Message

SAMPLING = Sampling(max_tokens=50)


class Counting(ScriptedEngine):
    """The scripted engine, with a list of what it was asked."""

    def __init__(self, delay: float = 0.0) -> None:
        super().__init__([ScriptedReply(when=r"(?s)(.*)", replies=(r"re: \1",), delay=delay)])
        self.asked: list[str] = []

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]) -> Iterator[Generation]:
        for prompt, seed in zip(prompts, seeds, strict=True):
            self.asked.append(str(prompt.messages))
            yield from super().generate([prompt], sampling, [seed])


def message(text: str) -> Message:
    return {"role": "user", "content": [{"type": "text", "text": text}]}


def prompts(words: Sequence[str]) -> list[Prompt]:
    return [Prompt([message(word)]) for word in words]


words = st.lists(st.text("abc", min_size=1, max_size=2), max_size=8)


@given(early=words, wanted=words, calls=st.integers(1, 4))
def test_answers_are_those_of_the_engine_and_each_question_is_asked_once(early, wanted, calls):
    engine = Counting()
    ahead = Ahead(lambda: engine, calls)
    for prompt in prompts(early):
        ahead.ask(prompt, SAMPLING, 0)
    seeds = [0] * len(wanted)
    assert list(ahead.generate(prompts(wanted), SAMPLING, seeds)) == list(
        Counting().generate(prompts(wanted), SAMPLING, seeds)
    )
    assert all(engine.asked.count(question) == 1 for question in engine.asked)


def test_another_seed_or_sampling_is_another_question():
    engine = Counting()
    ahead = Ahead(lambda: engine, 1)
    [prompt] = prompts(["a"])
    for sampling, seed in ((SAMPLING, 0), (SAMPLING, 1), (Sampling(max_tokens=2), 0)):
        ahead.ask(prompt, sampling, seed)
    assert len(next(iter(ahead.generate([prompt], Sampling(max_tokens=2), [0]))).completions[0].token_ids) == 2
    list(ahead.generate([prompt, prompt], SAMPLING, [0, 1]))
    assert len(engine.asked) == 3


def test_asking_does_not_wait_for_the_engine():
    opened = threading.Event()

    def start() -> Engine:
        opened.wait(10)
        return Counting()

    ahead = Ahead(start, 1)
    ahead.ask(prompts(["a"])[0], SAMPLING, 0)  # returns although the engine is not there yet
    opened.set()
    assert next(iter(ahead.generate(prompts(["a"]), SAMPLING, [0]))).completions[0].text == "re: a"


def test_what_failed_ahead_is_asked_again():
    class Failing(Counting):
        def generate(self, prompts, sampling, seeds):
            if not self.asked:
                self.asked.append("failed")
                raise ConnectionError("the first call fails")
            yield from super().generate(prompts, sampling, seeds)

    engine = Failing()
    ahead = Ahead(lambda: engine, 1)
    key = ahead.ask(prompts(["a"])[0], SAMPLING, 0)
    assert isinstance(ahead.answers[key].exception(timeout=10), ConnectionError)
    assert next(iter(ahead.generate(prompts(["a"]), SAMPLING, [0]))).completions[0].text == "re: a"


def test_an_engine_that_does_not_start_fails_the_one_who_wants_the_answer():
    def start() -> Engine:
        raise EngineLost("no such luck")

    ahead = Ahead(start, 1)
    key = ahead.ask(prompts(["a"])[0], SAMPLING, 0)
    assert isinstance(ahead.answers[key].exception(timeout=10), EngineLost)
    assert ahead.lost
    with pytest.raises(EngineLost, match="no such luck"):
        list(ahead.generate(prompts(["a"]), SAMPLING, [0]))
