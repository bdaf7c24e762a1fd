"""The one thread that calls vLLM, and the queue of requests before it.

Starts a Core (`racro.engines.vllm.core`), steps it while there are requests, has jobs done between them (other weights,
sleep), shuts it down. Knows neither prompts nor texts. Used by `racro.engines.vllm.engine`, from any number of threads.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from racro.engines.protocol import EngineLost
from racro.engines.vllm.core import Core


@dataclass(eq=False)
class Request:
    """A prompt that the owner works on."""

    inputs: Any
    """What vLLM takes: ids, image tokens expanded, and pixels."""
    deadline: float
    params: list[Any]
    """vLLM's sampling parameters, one per sample."""
    outputs: list[Any] = field(default_factory=list)
    """vLLM's output per sample; None while it is being made, and after the deadline."""
    left: int = 0
    """Samples that are being made."""
    until: float = math.inf
    """Deadline on the monotonic clock, from when vLLM was given the request."""
    error: Exception | None = None
    """Why vLLM did not take it."""

    def __post_init__(self) -> None:
        self.left = len(self.params)
        self.outputs = [None] * self.left


class Owner:
    """The thread and what waits for it."""

    def __init__(self, start: Callable[[], Core], sequences: int) -> None:
        """`start` is called in the thread; `sequences`: how many are worked on at once. Raises what `start` raises."""
        self.sequences = sequences
        self.changed = threading.Condition()
        """Guards and announces all that follows."""
        self.arrived: deque[Request] = deque()
        self.dropped: list[Request] = []
        self.jobs: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self.flying = 0
        """Sequences that are, or are about to be, with the owner."""
        self.error: BaseException | None = None
        self.closed = False

        self.running: dict[str, tuple[Request, int]] = {}
        """Of the thread alone: which sample a request of vLLM's is."""
        self.given = self.steps = 0
        started: Future[Core] = Future()
        self.thread = threading.Thread(target=self._own, args=(start, started), name="vllm", daemon=True)
        self.thread.start()
        self.core = started.result()

    # --- in the callers' threads --------------------------------------------------------------------------------------

    def reserve(self, n: int | None, waiting: deque[Request]) -> bool:
        """Wait until there is room for n more sequences, then True and it is taken; or until the first has finished.

        Whoever comes while the owner is wanted for something else waits until that is done. Raises EngineLost.
        """

        def room() -> bool:
            fits = n is not None and (self.flying == 0 or self.flying + n <= self.sequences)
            return fits and not self.jobs

        with self.changed:
            self.changed.wait_for(
                lambda: self.error or self.closed or room() or (waiting and not waiting[0].left),
            )
            self._check()
            if n is None or not room():
                return False
            self.flying += n
            return True

    def free(self, n: int) -> None:
        """What was reserved is not needed."""
        with self.changed:
            self.flying -= n
            self.changed.notify_all()

    def ask(self, request: Request) -> None:
        """Have it answered; there is room for it."""
        with self.changed:
            self.arrived.append(request)
            self.changed.notify_all()

    def drop(self, requests: Sequence[Request]) -> None:
        """Nobody wants these any more."""
        with self.changed:
            self.dropped += [request for request in requests if request.left]
            self.changed.notify_all()

    def between_requests(self, job: Callable[[], None]) -> None:
        """Have something done while no sequence is with the owner. Returns when it is; raises what it raises."""
        done: Future[None] = Future()
        with self.changed:
            self._check()
            self.jobs.append((job, done))
            self.changed.notify_all()
        done.result()

    def lose(self, error: BaseException) -> None:
        """The engine cannot be used any more; the first reason counts."""
        with self.changed:
            self.error = self.error or error
            self.changed.notify_all()

    def close(self) -> None:
        """Shut vLLM down. Whoever still waits gets EngineLost."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self.thread.join()

    def _check(self) -> None:
        if self.error is not None:
            raise EngineLost(f"vLLM has failed: {line(self.error)}") from self.error
        if self.closed:
            raise EngineLost("the engine is closed")

    # --- in the owner's thread ----------------------------------------------------------------------------------------

    def _own(self, start: Callable[[], Core], started: Future[Core]) -> None:
        try:
            core = start()
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(core)
        try:
            while self._turn(core):
                pass
        except BaseException as error:
            self.lose(error)
        with self.changed:
            for _, done in self.jobs:
                done.set_exception(EngineLost("the engine is closed"))
            self.jobs.clear()
        core.shutdown()

    def _turn(self, core: Core) -> bool:
        """Take what has arrived, make one step, hand out what has finished. False when the engine is to close."""
        with self.changed:
            self.changed.wait_for(
                lambda: self.closed or self.arrived or self.running or self.dropped or (self.jobs and not self.flying)
            )
            if self.closed:
                return False
            arrived, dropped = list(self.arrived), self.dropped
            self.arrived.clear()
            self.dropped = []
            job = self.jobs.popleft() if self.jobs and not self.flying else None
        if job is not None:
            self._do(core, *job)
        for request in arrived:
            self._submit(core, request)
        if self.running:
            self._finish(core.step())
            self.steps += 1
        now = time.monotonic()
        late = [name for name, (request, _) in self.running.items() if request in dropped or now > request.until]
        if late:
            core.abort(late)
            self._finish(dict.fromkeys(late))
        return True

    def _submit(self, core: Core, request: Request) -> None:
        request.until = time.monotonic() + request.deadline
        for sample, params in enumerate(request.params):
            self.given += 1
            name = str(self.given)
            self.running[name] = request, sample
            try:
                core.add(name, request.inputs, params)
            except ValueError as error:  # the first sample tells: vLLM takes a prompt or it does not
                request.error = error
                del self.running[name]
                self._leave(request, len(request.params))
                return

    def _finish(self, outputs: dict[str, Any]) -> None:
        """Sort outputs to their requests; None for what was given up."""
        for name, output in outputs.items():
            request, sample = self.running.pop(name)
            request.outputs[sample] = output
            self._leave(request, 1)

    def _leave(self, request: Request, samples: int) -> None:
        with self.changed:
            request.left -= samples
            self.flying -= samples
            self.changed.notify_all()

    def _do(self, core: Core, job: Callable[[], None], done: Future[None]) -> None:
        try:
            core.land()
            job()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)


def line(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
