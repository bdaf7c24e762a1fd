"""Any engine in a process of its own, here or on another machine: loaded once, and replaceable when it dies or hangs.

Not another kind of engine: it answers what the engine inside answers. Each call names the weights that it expects, and
a process that holds others refuses. Opened by `racro.engines.opening`; the other side is `racro.engines.worker.main`.
Torch-free.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import queue
import secrets
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from racro.config import ModelSection, Runtime
from racro.engines.protocol import Engine, EngineLost, Generation, Partial, Refusal, Request, Role, SwapFailed
from racro.engines.vllm.environment import of_engine
from racro.engines.waiting import take
from racro.processes.child import ending
from racro.processes.launcher import HERE, Machine, MachineLost, Placed
from racro.processes.wire import AHEAD, Gone

PATIENCE = 10.0
"""Seconds that an engine has to close itself."""
EXIT = 2.0
"""Seconds between a worker's last message and its exit status."""
CHECKS = 4
"""Checks in a row without a sign of life after which a worker counts as hung."""


@contextlib.contextmanager
def _lost_engine() -> Iterator[None]:
    """An engine is lost with its machine."""
    try:
        yield
    except MachineLost as error:
        raise EngineLost(str(error)) from error


class Call:
    """One call in flight: what came back, and how many requests may be sent."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.changed = threading.Condition()
        self.wanted = AHEAD
        self.over = False

    def put(self, kind: str, content: Any) -> None:
        """Add a message from the worker, or an error from this side."""
        with self.changed:
            if kind == "want":
                self.wanted = content
            else:
                self.events.put((kind, content))
                self.over = self.over or kind != "result"
            self.changed.notify_all()

    def get(self, seconds: float = math.inf) -> Any:
        """The next result, None at the end. Raises what ended the call, and queue.Empty after `seconds`."""
        kind, content = take(self.events, seconds)
        if kind == "error":
            raise content
        return content if kind == "result" else None

    def may_send(self, index: int) -> bool:
        """Wait until this request is wanted; False when the call is over before that."""
        with self.changed:
            self.changed.wait_for(lambda: self.over or index < self.wanted)
            return not self.over


class Worker(Engine):
    """An engine in its own process. Calls are thread-safe, as many at once as the engine inside takes."""

    def __init__(
        self,
        role: Role,
        config: ModelSection,
        folder: str,
        runtime: Runtime,
        log: Path,
        machine: Machine = HERE,
    ) -> None:
        """Start it where `runtime` says and wait until the engine is ready. `log` gets what it prints.

        One that runs already is given these weights, if it holds others. Raises EngineLost when the process dies or
        needs longer than `start_deadline`, and what the engine raises.
        """
        self.role: Role = role
        self.place = runtime.place(role)
        self.machine = machine
        self._lock = threading.Lock()
        self._calls: dict[int, Call] = {}
        # A process may still answer calls of the one that used it before.
        self._numbers = itertools.count(secrets.randbits(48))
        self._heard = 0
        self._reason = ""
        self._ended = threading.Event()
        self._log = log
        if self.place.gpus:  # in its process the first of them is number 0
            runtime = runtime.model_copy(update={"device": "cuda"})
        with _lost_engine():
            placed = machine.folder(folder)
            env = machine.call(of_engine, self.place, config.engine.type == "vllm")
            self._child, self._wire, warm = machine.start("racro.engines.worker.main", env, log, ("-X", "faulthandler"))
        self._holds = placed.name
        start = self._call("attach" if warm else "start", (role, config, placed, self.place, runtime))
        threading.Thread(target=self._read, name=f"{role}-reader", daemon=True).start()
        try:
            held = start.get(self.place.start_deadline)
            self._calls.pop(start.number, None)
            if warm and held != placed.name:
                self._load(placed)
        except queue.Empty:
            self._give_up(f"did not start within {self.place.start_deadline:g} s (runtime.{role}.start_deadline)")
            self.close()
            raise EngineLost(self._reason) from None
        except BaseException:  # a stage's timeout and Ctrl-C too: the process must not stay; raised again
            self._give_up("did not start")
            self.close()
            raise
        threading.Thread(target=self._watch, name=f"{role}-watch", daemon=True).start()

    @property
    def pid(self) -> int:
        """Of the engine's process."""
        return self._child.pid

    @property
    def lost(self) -> bool:
        """See Engine."""
        return bool(self._reason)

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        """See Engine. Requests are read in a thread, as far as the engine wants them."""
        return cast(Iterator[Generation | Refusal], self._generate("generate", requests))

    def stream(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal | Partial]:
        """See Engine."""
        return self._generate("stream", requests)

    def _generate(self, kind: str, requests: Iterable[Request]) -> Iterator[Generation | Refusal | Partial]:
        call = self._call(kind, self._holds)
        threading.Thread(target=self._feed, args=(call, requests), daemon=True).start()
        try:
            while (answer := call.get()) is not None:
                yield answer
        finally:
            with contextlib.suppress(Gone):
                if not call.over:
                    self._wire.send("cancel", call.number)
            call.put("done", None)
            self._calls.pop(call.number, None)

    def swap(self, folder: str) -> None:
        """See Engine."""
        with _lost_engine():
            placed = self.machine.folder(folder)
        self._ask("swap", placed)
        self._holds = placed.name

    def _load(self, placed: Placed) -> None:
        """Of an engine that ran before: give it these weights. Raises EngineLost, and then it is not used."""
        try:
            self._ask("swap", placed)
        except SwapFailed as error:
            raise EngineLost(str(error)) from error

    def sleep(self, discard: bool = False) -> None:
        """See Engine."""
        self._ask("sleep", discard)

    def close(self) -> None:
        """See Engine. Calls in flight raise EngineLost."""
        with self._lock:
            self._reason = self._reason or f"the {self.role}'s worker was closed"
        with contextlib.suppress(Gone):
            self._wire.send("close")
            self._child.wait(PATIENCE)
        self._wire.hang_up()
        self._ended.wait()
        self._wire.close()

    # --- calls --------------------------------------------------------------------------------------------------------

    def _call(self, kind: str, content: Any = None) -> Call:
        """Begin a call. Raises EngineLost."""
        with self._lock:
            if self._reason:
                raise EngineLost(self._reason)
            call = Call(next(self._numbers))
            self._calls[call.number] = call
        with contextlib.suppress(Gone):  # then the reader ends the call
            self._wire.send(kind, call.number, content)
        return call

    def _ask(self, kind: str, content: Any = None) -> None:
        """A call without results."""
        call = self._call(kind, content)
        try:
            call.get()
        finally:
            self._calls.pop(call.number, None)

    def _feed(self, call: Call, requests: Iterable[Request]) -> None:
        """Send the requests. In a thread: reading one may decode images or wait for something."""
        try:
            for index, request in enumerate(requests):
                if not call.may_send(index):
                    return
                self._wire.send("request", call.number, request)
            self._wire.send("end", call.number)
        except Gone:
            return
        except BaseException as error:  # of the requests: raised in the caller's thread
            with contextlib.suppress(Gone):
                self._wire.send("cancel", call.number)
            call.put("error", error)

    # --- life and death -----------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Hand messages to their calls until the process ends, then end it properly. In a thread."""
        try:
            while True:
                kind, number, content = self._wire.receive()
                self._heard += 1
                if kind == "lost":
                    self._give_up(content)
                elif kind != "beat" and (call := self._calls.get(number)):
                    call.put(kind, content)
        except Gone:
            pass
        finally:
            self._bury()

    def _watch(self) -> None:
        """Give up a process that says nothing while a call waits for it. In a thread.

        Counts its own checks, not the clock: both processes may have been stopped together.
        """
        heard, quiet = -1, 0
        while not self._ended.wait(self.place.silence / CHECKS):
            quiet = quiet + 1 if self._heard == heard else 0
            heard = self._heard
            if quiet >= CHECKS and self._calls:
                self._give_up(f"gave no sign of life for {self.place.silence:g} s (runtime.{self.role}.silence)")

    def _give_up(self, why: str) -> None:
        """Declare it lost; the first reason counts. The reader does the rest."""
        with self._lock:
            self._reason = self._reason or f"the {self.role}'s worker {why}"
        self._wire.hang_up()

    def _bury(self) -> None:
        """Leave no process behind, then tell every call."""
        try:
            status = None if self._reason else self._child.wait(EXIT)
            self._child.stop(0)
            words = self._child.last_words() or "(nothing)"
            self._give_up(f"{'hung up' if status is None else ending(status)}; the end of {self._log}: {words}")
        finally:
            self._give_up("cannot be killed")
            with self._lock:
                calls = list(self._calls.values())
            for call in calls:
                call.put("error", EngineLost(self._reason))
            self._ended.set()
