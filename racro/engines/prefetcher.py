"""An engine that can be asked before its answers are wanted: how the reasoner works while the captioner still writes.

A pure cache in memory. Answers are functions of (prompt, sampling, seed), so whoever asks ahead changes when something
is computed, never what; what is lost is asked again. Stages stay separate, and know nothing of each other. Made by
`tasks.running.engines` and `racro.answering.pipeline` around engines that run in processes of their own.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

from racro.engines.protocol import Engine, Generation, Prompt, Sampling

GATHER = 0.02
"""Seconds in which requests gather to one call: fewer calls, and nobody waits for so little."""


class Ahead(Engine):
    """Text prompts only. The engine behind it is opened at the first question, in the background too."""

    def __init__(self, start: Callable[[], Engine], calls: int) -> None:
        """`calls`: how many calls the engine works on at once; one that batches continuously takes many."""
        self.start, self.calls = start, calls
        self.engine: Engine | None = None
        self.failed = False
        self.answers: dict[str, Future[Generation]] = {}
        self.waiting: list[tuple[Prompt, Sampling, int, Future[Generation]]] = []
        self.calling = 0
        self.lock = threading.Lock()
        self.opening = threading.Lock()

    @property
    def lost(self) -> bool:
        """See Engine; one that did not start is lost too."""
        return self.failed or (self.engine is not None and self.engine.lost)

    @property
    def positions(self) -> int | None:
        """See Engine; of one that is open."""
        return None if self.engine is None else self.engine.positions

    def ask(self, prompt: Prompt, sampling: Sampling, seed: int) -> str:
        """Have this answered in the background, unless it is already. Returns at once, with the question's key."""
        key = json.dumps([prompt.messages, repr(sampling), seed])
        with self.lock:
            if key not in self.answers:
                self.answers[key] = answer = Future[Generation]()
                self.waiting.append((prompt, sampling, seed, answer))
                if self.calling < self.calls:
                    self.calling += 1
                    # A daemon: nobody may have to wait for an answer that nobody wants any more.
                    threading.Thread(target=self._call, name="ahead", daemon=True).start()
        return key

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]) -> Iterator[Generation]:
        """See Engine. What failed when it was asked ahead is asked again; what fails now is raised."""
        with self.lock:
            for key in [k for k, answer in self.answers.items() if answer.done() and answer.exception()]:
                del self.answers[key]
        keys = [self.ask(prompt, sampling, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        with self.lock:
            answers = [self.answers[key] for key in keys]
        try:
            for answer in answers:
                yield answer.result()
        finally:
            with self.lock:
                for key in keys:
                    self.answers.pop(key, None)

    def rest(self) -> None:
        """See Engine."""
        if self.engine is not None:
            self.engine.rest()

    def close(self) -> None:
        """See Engine. Who still waits gets the error of the closed engine."""
        with self.opening:
            if self.engine is not None:
                self.engine.close()

    def _call(self) -> None:
        """One thread: takes what waits, calls, until nothing waits."""
        while True:
            time.sleep(GATHER)
            with self.lock:
                batch, self.waiting = self.waiting, []
                if not batch:
                    self.calling -= 1
                    return
            for sampling in dict.fromkeys(sampling for _, sampling, _, _ in batch):
                alike = [request for request in batch if request[1] == sampling]
                prompts, _, seeds, answers = zip(*alike, strict=True)
                self._answer(prompts, sampling, seeds, answers)

    def _answer(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        seeds: Sequence[int],
        answers: Sequence[Future[Generation]],
    ) -> None:
        try:
            for answer, generation in zip(answers, self._opened().generate(prompts, sampling, seeds), strict=True):
                answer.set_result(generation)
        except BaseException as error:  # whoever wants the answer gets the error
            for answer in answers:
                if not answer.done():
                    answer.set_exception(error)

    def _opened(self) -> Engine:
        with self.opening:
            if self.engine is None:
                try:
                    self.engine = self.start()
                except BaseException:  # whatever it was, this engine is lost; raised again
                    self.failed = True
                    raise
            return self.engine
