"""One engine made of several copies of the same: requests go to the copy that has the least to do.

Not a process and not a router to different models. Opened by `racro.engines.opening` where `data_parallel` is above 1.
Answers are functions of (prompt, sampling, seed), so it does not matter which copy answers.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from racro.engines.protocol import Engine, Generation, Refusal, Request
from racro.engines.waiting import WAIT

PARTS = 8
"""Parts that fill the window of a copy."""


class Balanced(Engine):
    """Requests travel in small parts, so that a copy with long answers gets fewer of them."""

    def __init__(self, engines: Sequence[Engine], sequences: int = 256) -> None:
        """`sequences`: how many each copy decodes at once; it is given requests for twice as many."""
        self.engines, self.sequences = list(engines), sequences
        self.outstanding = [0] * len(self.engines)
        """Sequences given to each copy, of all calls, that it has not answered."""
        self.changed = threading.Condition()

    @property
    def lost(self) -> bool:
        """See Engine: True once any copy is lost."""
        return any(engine.lost for engine in self.engines)

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        """See Engine. Raises what the first copy raises that fails."""
        call = _Call(self, requests)
        threading.Thread(target=call.deal, daemon=True).start()
        try:
            while (answer := call.get()) is not None:
                yield answer
        finally:
            call.end()

    def swap(self, folder: str) -> None:
        """See Engine."""
        self._all(lambda engine: engine.swap(folder))

    def sleep(self, discard: bool = False) -> None:
        """See Engine."""
        self._all(lambda engine: engine.sleep(discard))

    def close(self) -> None:
        """See Engine."""
        self._all(lambda engine: engine.close())

    def _all(self, act: Callable[[Engine], None]) -> None:
        """On every copy at once; the first error is raised when all are done."""
        with ThreadPoolExecutor(len(self.engines)) as pool:
            acts = [pool.submit(act, engine) for engine in self.engines]
        for done in acts:
            done.result()


class _Call:
    """One `generate`: the parts that copies work on, and the answers that wait to be taken."""

    def __init__(self, balanced: Balanced, requests: Iterable[Request]) -> None:
        self.balanced, self.source = balanced, iter(requests)
        self.changed = balanced.changed
        self.window = 2 * balanced.sequences
        self.answers: deque[Generation | Refusal] = deque()
        self.running = 1
        """Threads that may still add answers: the one that deals, and one per part."""
        self.error: BaseException | None = None
        self.over = False

    def deal(self) -> None:
        """Give parts to copies until all are given. Parts get smaller towards the end, so that all end together."""
        copies = len(self.balanced.engines)
        upcoming: deque[Request] = deque()
        try:
            while not self.over:
                upcoming.extend(itertools.islice(self.source, not upcoming))
                if not upcoming:
                    return
                full = max(1, self.window // upcoming[0].sampling.n // PARTS)
                upcoming.extend(itertools.islice(self.source, max(0, full * 2 * copies - len(upcoming))))
                size = max(1, min(full, len(upcoming) // (2 * copies)))
                self._start([upcoming.popleft() for _ in range(size)])
        except BaseException as error:  # of the requests; raised where the answers are awaited
            self.error = self.error or error
        finally:
            self._leave()

    def _start(self, part: list[Request]) -> None:
        """Give a part to the copy that has the least to do, as soon as there is room."""
        outstanding, weight = self.balanced.outstanding, sum(request.sampling.n for request in part)
        with self.changed:
            while not self.over and min(outstanding) and min(outstanding) + weight > self.window:
                self.changed.wait()
            if self.over:
                return
            copy = outstanding.index(min(outstanding))
            outstanding[copy] += weight
            self.running += 1
        threading.Thread(target=self._run, args=(copy, deque(part), weight), daemon=True).start()

    def _run(self, copy: int, part: deque[Request], weight: int) -> None:
        """One part on one copy. Requests that the copy has read are not kept here, because of their images."""
        outstanding = self.balanced.outstanding
        samples = {request.key: request.sampling.n for request in part}
        try:
            answers = self.balanced.engines[copy].generate(part.popleft() for _ in range(len(part)))
            with contextlib.closing(cast(Generator[Generation | Refusal, Any, Any], answers)):
                for answer in answers:
                    with self.changed:
                        if self.over:
                            return
                        self.answers.append(answer)
                        outstanding[copy] -= samples[answer.key]
                        weight -= samples[answer.key]
                        self.changed.notify_all()
        except BaseException as error:  # raised where the answers are awaited
            self.error = self.error or error
        finally:
            with self.changed:
                outstanding[copy] -= weight
            self._leave()

    def _leave(self) -> None:
        with self.changed:
            self.running -= 1
            self.changed.notify_all()

    def get(self) -> Generation | Refusal | None:
        """Wait for an answer; None at the end. Raises the first error."""
        with self.changed:
            while not self.answers and self.running and self.error is None:
                self.changed.wait(WAIT)
            if self.answers:
                return self.answers.popleft()
            if self.error is not None:
                raise self.error
            return None

    def end(self) -> None:
        """No more parts are given out; copies stop at their next answer."""
        with self.changed:
            self.over = True
            self.changed.notify_all()
