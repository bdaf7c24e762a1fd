"""An engine that also answers in the background: how the reasoner works while the captioner still writes.

A cache in memory and nothing more. Answers are functions of (prompt, sampling, seed), so prefetching changes when
something is computed, never what; an answer that is lost is asked for again. Stages stay separate and know nothing of
each other. Made by `racro.engines.opening` around reasoners that run outside this process.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future

from racro.engines.protocol import Engine, EngineLost, Generation, Refusal, Request
from racro.engines.waiting import take, unless_opening

GATHER = 0.02
"""Seconds during which requests are gathered for one call: fewer calls, and a delay that does not matter."""

Answer = Future[Generation | Refusal]


class Prefetcher(Engine):
    """For text prompts only. Unless `open` was called, the engine behind it is opened at the first request."""

    def __init__(self, start: Callable[[], Engine], calls: int) -> None:
        """`start` opens the engine. `calls`: how many calls it works on at the same time."""
        self.start, self.calls = start, calls
        self.engine: Engine | None = None
        self.failed = self.closed = False
        self.answers: dict[str, Answer] = {}
        """By what determines them: prompt, sampling and seed."""
        self.waiting: list[tuple[Request, Answer]] = []
        self.calling = 0
        self.lock = threading.Lock()
        self.opening = threading.Lock()

    def open(self) -> Engine:
        """The engine behind this one, opened now unless it is open. Raises what opening it raises, and EngineLost."""
        with self.opening:
            if self.engine is None and not self.closed:
                try:
                    self.engine = self.start()
                except BaseException:  # the engine is lost for any error; raised again
                    self.failed = True
                    raise
            if self.closed:
                self._close()
            if self.engine is None:
                raise EngineLost("the engine was closed before it was open")
            return self.engine

    @property
    def lost(self) -> bool:
        """See Engine; also True if the engine did not start."""
        return self.failed or (self.engine is not None and self.engine.lost)

    @property
    def moved(self) -> int:
        """See Engine."""
        return 0 if self.engine is None else self.engine.moved

    @property
    def positions(self) -> int | None:
        """See Engine; None until the engine is open."""
        return None if self.engine is None else self.engine.positions

    def prefetch(self, requests: Iterable[Request]) -> None:
        """See Engine."""
        for request in requests:
            self.submit(request)

    def submit(self, request: Request) -> Answer:
        """The answer to a request, which is asked for in the background unless it has been already."""
        key = _content(request)
        with self.lock:
            if key not in self.answers:
                self.answers[key] = Answer()
                self.waiting.append((request, self.answers[key]))
                if self.calling < self.calls:
                    self.calling += 1
                    # A daemon: this process must be able to end before an answer that is not needed any more.
                    threading.Thread(target=self._call, name="prefetcher", daemon=True).start()
            return self.answers[key]

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        """See Engine. What failed in the background is asked for again; what fails now is raised."""
        with self.lock:
            for content in [content for content, answer in self.answers.items() if _failed(answer)]:
                del self.answers[content]
        ready: queue.SimpleQueue[tuple[int, Answer]] = queue.SimpleQueue()
        contents: list[str] = []
        try:
            for request in requests:
                contents.append(_content(request))
                self.submit(request).add_done_callback(functools.partial(_announce, ready, request.key))
            for _ in contents:
                key, answer = take(ready)
                yield dataclasses.replace(answer.result(), key=key)
        finally:
            with self.lock:
                for content in contents:
                    self.answers.pop(content, None)

    def sleep(self, discard: bool = False) -> None:
        """See Engine."""
        if self.engine is not None:
            self.engine.sleep(discard)

    def close(self) -> None:
        """See Engine. Calls that still wait get the error of the closed engine.

        One that is just being opened, for minutes perhaps, is closed by the thread that opens it.
        """
        self.closed = True
        with unless_opening(self.opening) as held:
            if held:
                self._close()

    def _close(self) -> None:
        if self.engine is not None:
            self.engine.close()

    def _call(self) -> None:
        """Take what waits and have it answered, until nothing waits. In a thread."""
        while True:
            time.sleep(GATHER)
            with self.lock:
                batch, self.waiting = self.waiting, []
                if not batch:
                    self.calling -= 1
                    return
            error: BaseException = EngineLost("the engine did not answer everything that it was asked")
            try:
                numbered = [dataclasses.replace(request, key=i) for i, (request, _) in enumerate(batch)]
                for made in self.open().generate(numbered):
                    batch[made.key][1].set_result(made)
            except BaseException as raised:  # raised again by whoever takes the answer
                error = raised
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)


def _content(request: Request) -> str:
    prompt = request.prompt
    return json.dumps([prompt.messages, prompt.lead, repr(request.sampling), request.seed, request.forced])


def _announce(ready: queue.SimpleQueue[tuple[int, Answer]], key: int, answer: Answer) -> None:
    ready.put((key, answer))


def _failed(answer: Answer) -> bool:
    return answer.done() and answer.exception() is not None
