"""The one thread that calls vLLM, and the queue of sequence groups before it.

Starts a Core (`racro.engines.vllm.core`), steps it while there is something to generate, runs jobs in between (other
weights, sleep), and shuts it down. Knows neither prompts nor texts. Used by `racro.engines.vllm.engine`, from any
number of threads.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from racro.engines.protocol import BadPrompt, EngineLost
from racro.engines.vllm.core import Core


@dataclass(eq=False)
class SequenceGroup:
    """The samples of one request, on which vLLM works."""

    key: int
    """The request's."""
    inputs: Any
    """What vLLM takes: ids, image tokens expanded, and pixels."""
    deadline: float
    lead: bool
    """Was the model's turn begun for it?"""
    forced: str | None
    """The text that ends the prompt and is scored; None: the model writes."""
    scored: int
    """Tokens of that text."""
    params: list[Any]
    """vLLM's sampling parameters, one per sample."""
    finished: deque[SequenceGroup]
    """Where the group is put when no sample is left; of the call that waits for it."""
    outputs: list[Any] = field(default_factory=list)
    """vLLM's output per sample; None while it is being made, and after the deadline."""
    left: int = 0
    """Samples that are being made."""
    until: float = math.inf
    """Deadline on the monotonic clock, from when vLLM was given the group."""
    error: BadPrompt | None = None
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
        """Guards and announces everything below."""
        self.arrived: deque[SequenceGroup] = deque()
        self.dropped: list[SequenceGroup] = []
        self.jobs: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self.flying = 0
        """Sequences that are, or are about to be, with the owner."""
        self.error: BaseException | None = None
        self.closed = False

        self.running: dict[str, tuple[SequenceGroup, int]] = {}
        """Used by the thread alone: which sample of which group a request of vLLM's is."""
        self.given = self.steps = 0
        started: Future[Core] = Future()
        self.thread = threading.Thread(target=self._own, args=(start, started), name="vllm", daemon=True)
        self.thread.start()
        self.core = started.result()

    # --- in the callers' threads --------------------------------------------------------------------------------------

    def reserve(self, n: int | None, finished: deque[SequenceGroup]) -> bool:
        """Wait until there is room for n more sequences (then reserve it and return True), or something has finished.

        No room is given while a job waits to run between sequences. Raises EngineLost.
        """

        def room() -> bool:
            fits = n is not None and (self.flying == 0 or self.flying + n <= self.sequences)
            return fits and not self.jobs

        with self.changed:
            self.changed.wait_for(lambda: self.error or self.closed or room() or finished)
            self._check()
            if n is None or not room():
                return False
            self.flying += n
            return True

    def free(self, n: int) -> None:
        """Give back reserved room that is not needed."""
        with self.changed:
            self.flying -= n
            self.changed.notify_all()

    def submit(self, group: SequenceGroup) -> None:
        """Have it generated; its room is reserved."""
        with self.changed:
            self.arrived.append(group)
            self.changed.notify_all()

    def drop(self, groups: Iterable[SequenceGroup]) -> None:
        """Give these up: their caller has gone."""
        with self.changed:
            self.dropped += [group for group in groups if group.left]
            self.changed.notify_all()

    def between_requests(self, job: Callable[[], None]) -> None:
        """Run a job while no sequence is with the owner. Returns when it is done; raises what it raises."""
        done: Future[None] = Future()
        with self.changed:
            self._check()
            self.jobs.append((job, done))
            self.changed.notify_all()
        done.result()

    def lose(self, error: BaseException) -> None:
        """Declare the engine unusable; the first reason counts."""
        with self.changed:
            self.error = self.error or error
            self.changed.notify_all()

    def close(self) -> None:
        """Shut vLLM down. Calls that still wait get EngineLost."""
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
        for group in arrived:
            self._submit(core, group)
        if self.running:
            self._finish(core.step())
            self.steps += 1
        now = time.monotonic()
        late = [name for name, (group, _) in self.running.items() if group in dropped or now > group.until]
        if late:
            core.abort(late)
            self._finish(dict.fromkeys(late))
        return True

    def _submit(self, core: Core, group: SequenceGroup) -> None:
        group.until = time.monotonic() + group.deadline
        for sample, params in enumerate(group.params):
            self.given += 1
            name = str(self.given)
            self.running[name] = group, sample
            try:
                core.add(name, group.inputs, params)
            except BadPrompt as error:  # at the first sample: vLLM takes a prompt or it does not
                group.error = error
                del self.running[name]
                self._leave(group, len(group.params))
                return

    def _finish(self, outputs: dict[str, Any]) -> None:
        """Sort outputs to their groups; None for what was given up."""
        for name, output in outputs.items():
            group, sample = self.running.pop(name)
            group.outputs[sample] = output
            self._leave(group, 1)

    def _leave(self, group: SequenceGroup, samples: int) -> None:
        with self.changed:
            group.left -= samples
            self.flying -= samples
            if not group.left:
                group.finished.append(group)
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
