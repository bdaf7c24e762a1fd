"""One engine for many clients at once: each has a seat, and what they ask at the same time is one call of the engine.

Engines that work on one call at a time (`transformers`) get all that waits as the next call; engines that schedule
requests themselves (vLLM, servers) get a call for each client. A client that leaves costs nothing more: what waits is
dropped, and a call that nobody waits for is closed. Called by `racro.serving.pairs`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from racro.engines.protocol import Engine, EngineLost, Generation, Partial, Refusal, Request
from racro.engines.waiting import take

Told = Generation | Refusal | Partial | BaseException


class Left(Exception):
    """The client does not wait any more."""


@dataclass(eq=False)
class _Waiting:
    """A request of a seat's, and where its answer goes."""

    request: Request
    answers: queue.SimpleQueue[Told]
    seat: Seat
    done: bool = field(default=False)

    def tell(self, made: Generation | Refusal | Partial) -> None:
        """Pass on, with the number that the request has in its own call."""
        self.done = self.done or not isinstance(made, Partial)
        self.answers.put(dataclasses.replace(made, key=self.request.key))


class Shared:
    """The engine and what waits for it."""

    def __init__(self, engine: Engine, gathers: bool, batch: int) -> None:
        """`gathers`: requests of several clients become one call, of at most `batch` requests."""
        self.engine, self.gathers, self.batch = engine, gathers, batch
        self._waiting: list[_Waiting] = []
        self._calling = False
        self._lock = threading.Lock()

    def ask(self, waiting: list[_Waiting]) -> None:
        """Have them answered. Called once for all requests of a seat's call."""
        with self._lock:
            self._waiting += waiting
            if not self._calling:
                self._calling = True
                # A daemon: this process must be able to end before an answer that nobody needs any more.
                threading.Thread(target=self._call, name="shared-engine", daemon=True).start()

    def _call(self) -> None:
        """Call the engine until nothing waits. In a thread."""
        while True:
            with self._lock:
                wanted = [one for one in self._waiting if not one.seat.left]
                batch, self._waiting = wanted[: self.batch], wanted[self.batch :]
                if not batch:
                    self._calling = False
                    return
            error: BaseException = EngineLost("the engine did not answer everything that it was asked")
            try:
                requests = [dataclasses.replace(one.request, key=i) for i, one in enumerate(batch)]
                answers = cast(Generator[Generation | Refusal | Partial, Any, Any], self.engine.stream(requests))
                with contextlib.closing(answers):
                    for made in answers:
                        batch[made.key].tell(made)
                        if all(one.done or one.seat.left for one in batch):
                            break
            except BaseException as raised:  # raised again where the answers are awaited
                error = raised
            for one in batch:
                if not one.done:
                    one.answers.put(error)


class Seat(Engine):
    """The engine as one client has it. `leave` may be called from any thread."""

    def __init__(
        self,
        shared: Shared,
        room: int,
        written: Callable[[Partial], None],
        counted: Callable[[tuple[int, int]], None],
    ) -> None:
        """`room`: tokens that a text may have. `written` is called with texts on their way, `counted` with tokens."""
        self.shared, self.room = shared, room
        self.written, self.counted = written, counted
        self.left = False
        self._answers: queue.SimpleQueue[Told] = queue.SimpleQueue()

    @property
    def positions(self) -> int:
        """See Engine: so many that a quarter of them is `room`, which `racro.answering` takes for a text."""
        return 4 * self.room

    def leave(self) -> None:
        """The client has gone: whoever waits for this seat's answers gets Left."""
        self.left = True
        self._answers.put(Left())

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        """See Engine. Raises Left."""
        if self.left:
            raise Left
        asked = list(requests)
        for made in self._gathered(asked) if self.shared.gathers else self._alone(asked):
            if self.left:
                raise Left
            if isinstance(made, Partial):
                self.written(made)
                continue
            if isinstance(made, Generation):
                self.counted(made.tokens)
            yield made

    def close(self) -> None:
        """See Engine. The engine stays open for the others."""

    def _gathered(self, asked: list[Request]) -> Iterator[Generation | Refusal | Partial]:
        """Through the calls that all clients share."""
        self.shared.ask([_Waiting(request, self._answers, self) for request in asked])
        missing = len(asked)
        while missing:
            told = take(self._answers)
            if isinstance(told, BaseException):
                raise told
            missing -= not isinstance(told, Partial)
            yield told

    def _alone(self, asked: list[Request]) -> Iterator[Generation | Refusal | Partial]:
        """By a call for this client."""
        answers = cast(Generator[Generation | Refusal | Partial, Any, Any], self.shared.engine.stream(asked))
        with contextlib.closing(answers):
            yield from answers
