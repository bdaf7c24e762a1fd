"""Batches of a small model side by side on a CPU; elsewhere one at a time, because it fills the device and its memory.

A batch of a small model does not keep two cores busy: its matrices are too small to be shared, and between them there
is Python. Two batches do, each with half of the threads. Called by `racro.engines.local.transformers`.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch

A = TypeVar("A")
B = TypeVar("B")

SIDE_BY_SIDE = 2
SMALL = 20_000_000
"""Parameters below which a model does not keep two threads busy: twenty times those of the embedded captioner."""


class Lanes:
    """A model as often as batches are computed at once. Its weights are there once."""

    def __init__(self, model: Any) -> None:
        self.threads = torch.get_num_threads()
        small = model.device.type == "cpu" and sum(one.numel() for one in model.parameters()) < SMALL
        self.count = SIDE_BY_SIDE if small and self.threads >= SIDE_BY_SIDE else 1
        self.models: list[Any] = []
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for lane in range(self.count):
            self._free.put(lane)
        self._all = threading.Lock()
        self.hold(model)

    def hold(self, model: Any) -> None:
        """Compute with this model from now on."""
        self.models = [model, *(_twin(model) for _ in range(self.count - 1))]

    def drop(self) -> None:
        """Keep no model."""
        self.models = []

    @contextlib.contextmanager
    def one(self) -> Iterator[Any]:
        """A model that nobody else uses meanwhile, and its share of the threads. Waits for it."""
        lane = self._free.get()
        try:
            torch.set_num_threads(self.threads // self.count)  # of this thread
            yield self.models[lane]
        finally:
            torch.set_num_threads(self.threads)
            self._free.put(lane)

    @contextlib.contextmanager
    def none_busy(self) -> Iterator[None]:
        """Nobody computes meanwhile. Waits until nobody does."""
        with self._all:
            lanes = [self._free.get() for _ in range(self.count)]
            try:
                yield
            finally:
                for lane in lanes:
                    self._free.put(lane)

    def in_order(self, work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        """The results of `work`, in the order of the items, which are read as they are needed."""
        if self.count == 1:
            yield from map(work, items)
            return
        pool = ThreadPoolExecutor(self.count, "batch")
        begun: deque[Future[B]] = deque()
        source = iter(items)
        try:
            for item in itertools.islice(source, self.count):
                begun.append(pool.submit(work, item))
            while begun:
                begun.extend(pool.submit(work, item) for item in itertools.islice(source, 1))
                yield begun.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _twin(model: Any) -> Any:
    """A copy with the same weights. Modules may remember something of their last call."""
    shared = {id(tensor): tensor for tensor in itertools.chain(model.parameters(), model.buffers())}
    return copy.deepcopy(model, shared)
