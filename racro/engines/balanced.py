"""One engine out of several copies of the same: every copy gets the next prompts when it has the least to do.

Not a process and not a router to different models. Opened by `racro.engines` where `data_parallel` is above 1. Answers
are functions of (prompt, sampling, seed), so who answers changes none of them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast, overload

from racro.engines.protocol import Engine, Generation, Prompt, Sampling

T = TypeVar("T")

BREATH = 1.0
"""Seconds of waiting at a stretch: a stage's timeout reaches a thread between waits, not in one."""


class Balanced(Engine):
    """Prompts travel in small parts, so that a copy with long answers gets fewer of them."""

    def __init__(self, engines: Sequence[Engine], sequences: int = 256) -> None:
        """`sequences`: how many each copy decodes at once; it is given prompts for twice as many."""
        self.engines, self.sequences = list(engines), sequences
        self.outstanding = [0] * len(self.engines)
        """Prompts given to each copy, of all calls, that it has not answered."""
        self.changed = threading.Condition()

    @property
    def lost(self) -> bool:
        """See Engine: one copy is enough."""
        return any(engine.lost for engine in self.engines)

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]) -> Iterator[Generation]:
        """See Engine. Prompts are read in several threads, each once. Raises what the first copy raises that fails."""
        call = _Call(self, prompts, sampling, seeds)
        threading.Thread(target=call.deal, daemon=True).start()
        try:
            for index in range(len(prompts)):
                yield call.get(index)
        finally:
            call.end()

    def swap(self, folder: str) -> None:
        """See Engine."""
        self._all(lambda engine: engine.swap(folder))

    def rest(self) -> None:
        """See Engine."""
        self._all(lambda engine: engine.rest())

    def close(self) -> None:
        """See Engine."""
        self._all(lambda engine: engine.close())

    def _all(self, act: Callable[[Engine], None]) -> None:
        """On every copy at once; the first error when all are through."""
        with ThreadPoolExecutor(len(self.engines)) as pool:
            acts = [pool.submit(act, engine) for engine in self.engines]
        for done in acts:
            done.result()


class _Call:
    """One `generate`: parts that are out, answers that wait for their turn."""

    def __init__(self, balanced: Balanced, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]) -> None:
        self.balanced, self.prompts, self.sampling, self.seeds = balanced, prompts, sampling, seeds
        self.changed = balanced.changed
        self.window = max(1, 2 * balanced.sequences // sampling.n)
        self.ready: dict[int, Generation] = {}
        self.error: BaseException | None = None
        self.over = False

    def deal(self) -> None:
        """Give parts to copies until all are out; smaller ones towards the end, so that all end together."""
        outstanding = self.balanced.outstanding
        start, total = 0, len(self.prompts)
        while start < total:
            size = max(1, min(self.window // 8, (total - start) // (2 * len(outstanding))))
            with self.changed:
                while not self.over and min(outstanding) + size > self.window:
                    self.changed.wait()
                if self.over:
                    return
                copy = outstanding.index(min(outstanding))
                outstanding[copy] += size
            threading.Thread(target=self.run, args=(copy, range(start, start + size)), daemon=True).start()
            start += size

    def run(self, copy: int, part: range) -> None:
        """One part on one copy."""
        outstanding = self.balanced.outstanding
        left = len(part)
        prompts, seeds = _Part(self.prompts, part), _Part(self.seeds, part)
        try:
            generations = self.balanced.engines[copy].generate(prompts, self.sampling, seeds)
            with contextlib.closing(cast(Generator[Generation, Any, Any], generations)):
                for index, generation in zip(part, generations, strict=True):
                    with self.changed:
                        if self.over:
                            return
                        self.ready[index] = generation
                        outstanding[copy] -= 1
                        left -= 1
                        self.changed.notify_all()
        except BaseException as error:  # raised where the answers are awaited
            self.error = self.error or error
        finally:
            with self.changed:
                outstanding[copy] -= left
                self.changed.notify_all()

    def get(self, index: int) -> Generation:
        """Wait for an answer."""
        with self.changed:
            while index not in self.ready and self.error is None:
                self.changed.wait(BREATH)
            if index not in self.ready:
                assert self.error is not None
                raise self.error
            return self.ready.pop(index)

    def end(self) -> None:
        """No more parts go out, those that are out end at their next answer."""
        with self.changed:
            self.over = True
            self.changed.notify_all()


class _Part(Sequence[T]):
    """A part of a sequence, read when it is asked for."""

    def __init__(self, whole: Sequence[T], part: range) -> None:
        self.whole, self.part = whole, part

    def __len__(self) -> int:
        return len(self.part)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return _Part(self.whole, self.part[index])
        return self.whole[self.part[index]]
