"""One engine made of several copies of the same: requests go to the copy that has the least to do.

Not a process and not a router to different models. Opened by `racro.engines.opening` where `data_parallel` is above 1,
and on a cluster, where a lost copy is replaced and what it did not answer is asked again. Answers are functions of
(prompt, sampling, seed), so it does not matter which copy answers.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from racro.engines.protocol import Engine, EngineLost, Generation, Refusal, Request
from racro.engines.waiting import WAIT

PARTS = 8
"""Parts that fill the window of a copy."""
PARTS_ALONE = 2
"""Of a single copy: there is nothing to balance, and small parts would be small batches."""
LOSSES = 2
"""Copies that a request may lose before it counts as the reason."""

logger = logging.getLogger(__name__)

Reopen = Callable[[int, str], Engine]
"""Opens a copy again, by its number, with the weights of a folder. Raises EngineLost."""


class Balanced(Engine):
    """Requests travel in small parts, so that a copy with long answers gets fewer of them."""

    def __init__(
        self,
        engines: Sequence[Engine],
        sequences: int = 256,
        reopen: Reopen | None = None,
        folder: str = "",
        left: Callable[[], None] = lambda: None,
    ) -> None:
        """`sequences`: how many each copy decodes at once; it is given requests for twice as many.

        `reopen`: replaces a copy that is lost; without it, all are lost with one. `folder`: of their weights. `left`:
        called when all copies are closed.
        """
        self.left = left
        self.engines, self.sequences, self.reopen, self.folder = list(engines), sequences, reopen, folder
        self.outstanding: list[float] = [0] * len(self.engines)
        """Sequences given to each copy, of all calls, that it has not answered; without end for a lost copy."""
        self.replacing: set[int] = set()
        """Copies that are being opened again."""
        self.again = 0
        """Requests that a lost copy did not answer and others were given."""
        self.closed = False
        self.changed = threading.Condition()

    @property
    def moved(self) -> int:
        """See Engine."""
        return self.again + sum(engine.moved for engine in self.engines)

    @property
    def lost(self) -> bool:
        """See Engine: True once any copy is lost; if lost ones are replaced, once none is left."""
        if self.reopen is None:
            return any(engine.lost for engine in self.engines)
        with self.changed:
            return not self.replacing and all(map(math.isinf, self.outstanding))

    def replace(self, copy: int, engine: Engine) -> None:
        """Open a copy again, in the background. `engine`: the one that was lost; another one is there already."""
        with self.changed:
            if self.closed or copy in self.replacing or self.engines[copy] is not engine:
                return
            self.replacing.add(copy)
            self.outstanding[copy] = math.inf
            self.changed.notify_all()
        threading.Thread(target=self._replace, args=(copy, engine), daemon=True).start()

    def _replace(self, copy: int, lost: Engine) -> None:
        assert self.reopen is not None
        logger.warning("copy %d of an engine is lost and opened again; others answer meanwhile", copy)
        engine = None
        try:
            lost.close()
            held = self.folder
            engine = self.reopen(copy, held)
            while not self._joined(copy, engine, held):
                held = self.folder
                engine.swap(held)
        except BaseException as error:  # in a thread: calls end with EngineLost when no copy is left
            logger.warning("copy %d of an engine could not be opened again: %s", copy, error)
            if engine is not None:
                engine.close()
        with self.changed:
            self.replacing.discard(copy)
            self.changed.notify_all()

    def _joined(self, copy: int, engine: Engine, held: str) -> bool:
        """Let an opened copy work; False if the others hold other weights by now."""
        with self.changed:
            if held != self.folder:
                return False
            if not self.closed:
                self.engines[copy], self.outstanding[copy] = engine, 0
                return True
        engine.close()
        return True

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
        """See Engine. A copy that is lost meanwhile is opened again with the new weights, if any other is left."""
        if self.reopen is None:
            self._all(lambda engine: engine.swap(folder))
        else:
            with self.changed:
                self.folder = folder
                self.changed.wait_for(lambda: self._living() or not self.replacing)
            self._each_living(lambda engine: engine.swap(folder))

    def sleep(self, discard: bool = False) -> None:
        """See Engine."""
        if self.reopen is None:
            self._all(lambda engine: engine.sleep(discard))
        else:
            self._each_living(lambda engine: engine.sleep(discard))

    def _living(self) -> list[tuple[int, Engine]]:
        return [(copy, engine) for copy, engine in enumerate(self.engines) if not math.isinf(self.outstanding[copy])]

    def _each_living(self, act: Callable[[Engine], None]) -> None:
        """On every copy that is not lost, at once; lost ones are opened again. Raises EngineLost if none lives."""
        with self.changed:
            living, every = self._living(), list(enumerate(self.engines))
        why: EngineLost | None = None
        with ThreadPoolExecutor(max(1, len(living))) as pool:
            acts = [(copy, engine, pool.submit(act, engine)) for copy, engine in living]
        done = set()
        for copy, _, result in acts:
            try:
                result.result()
                done.add(copy)
            except EngineLost as error:
                why = error
        for copy, engine in every:
            if copy not in done:
                self.replace(copy, engine)
        if not done:
            raise why or EngineLost("no copy of the engine is left")

    def close(self) -> None:
        """See Engine."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        try:
            self._all(lambda engine: engine.close())
        finally:
            self.left()

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
        self.losses: Counter[int] = Counter()
        """By the key of a request: copies that were lost with it."""

    def deal(self) -> None:
        """Give parts to copies until all are given. Parts get smaller towards the end, so that all end together."""
        copies = len(self.balanced.engines)
        upcoming: deque[Request] = deque()
        try:
            while not self.over:
                upcoming.extend(itertools.islice(self.source, not upcoming))
                if not upcoming:
                    return
                parts, ahead = (PARTS, 2 * copies) if copies > 1 else (PARTS_ALONE, 1)
                full = max(1, self.window // upcoming[0].sampling.n // parts)
                upcoming.extend(itertools.islice(self.source, max(0, full * ahead - len(upcoming))))
                size = max(1, min(full, len(upcoming) // ahead))
                self._start([upcoming.popleft() for _ in range(size)])
        except BaseException as error:  # of the requests; raised where the answers are awaited
            self.error = self.error or error
        finally:
            self._leave()

    def _start(self, part: list[Request]) -> None:
        """Give a part to the copy that has the least to do, as soon as there is room. Raises EngineLost."""
        outstanding, weight = self.balanced.outstanding, sum(request.sampling.n for request in part)
        with self.changed:
            while not self.over and min(outstanding) and min(outstanding) + weight > self.window:
                if self.balanced.reopen is not None and self.balanced.lost:
                    raise EngineLost("no copy of the engine is left")
                self.changed.wait()
            if self.over:
                return
            copy = outstanding.index(min(outstanding))
            outstanding[copy] += weight
            self.running += 1
            engine = self.balanced.engines[copy]
        threading.Thread(target=self._run, args=(copy, engine, part, weight), daemon=True).start()

    def _run(self, copy: int, engine: Engine, part: list[Request], weight: int) -> None:
        """One part on one copy. Requests are kept until they are answered only where lost copies are replaced."""
        outstanding, replaced = self.balanced.outstanding, self.balanced.reopen is not None
        samples = {request.key: request.sampling.n for request in part}
        unanswered = {request.key: request for request in part} if replaced else {}
        given = deque(part)
        del part
        try:
            answers = engine.generate(given.popleft() for _ in range(len(given)))
            with contextlib.closing(cast(Generator[Generation | Refusal, Any, Any], answers)):
                for answer in answers:
                    with self.changed:
                        if self.over:
                            return
                        self.answers.append(answer)
                        unanswered.pop(answer.key, None)
                        outstanding[copy] -= samples[answer.key]
                        weight -= samples[answer.key]
                        self.changed.notify_all()
        except EngineLost as error:
            if not replaced:
                self.error = self.error or error
                return
            weight = 0  # what the copy that takes its place has to do begins anew
            self.balanced.replace(copy, engine)
            self._again(unanswered, error)
        except BaseException as error:  # raised where the answers are awaited
            self.error = self.error or error
        finally:
            with self.changed:
                outstanding[copy] -= weight
            self._leave()

    def _again(self, unanswered: dict[int, Request], error: EngineLost) -> None:
        """Ask elsewhere what a lost copy did not answer, unless one of these is why copies are lost."""
        self.losses.update(unanswered.keys())
        if max((self.losses[key] for key in unanswered), default=0) > LOSSES:
            self.error = self.error or error
            return
        try:
            if unanswered:
                self.balanced.again += len(unanswered)
                self._start(list(unanswered.values()))
        except EngineLost as gone:
            self.error = self.error or gone

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
