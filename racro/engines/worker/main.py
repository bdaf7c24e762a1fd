"""The program in a worker's process: builds an engine, serves calls on it, and regularly says that it is alive.

    python -m racro.engines.worker.main FD

Not an engine; the other side of `racro.engines.worker.client`, which starts it. FD is its end of a socket pair, and
`racro.processes.wire` lists the messages. Its output goes to the log, so nothing that a library prints can be
taken for a message.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import pickle
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from racro.config import EnginePlacement, ModelSection, Runtime
from racro.engines.building import build
from racro.engines.protocol import Engine, EngineLost, Request, Role
from racro.models.folders import require_model
from racro.processes.launcher import Placed
from racro.processes.wire import AHEAD, Gone, Wire


class Cancelled(Exception):
    """The caller does not want the answers of this call any more."""


class Feed(Iterable[Request]):
    """The requests of a call as they arrive: reading the next one waits for it. To be read once."""

    def __init__(self, want: Callable[[int], None]) -> None:
        """`want` asks for more, up to a total; the first AHEAD come unasked."""
        self.want = want
        self.arrived: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        """None at the end, and when the call was cancelled."""
        self.cancelled = False

    def __iter__(self) -> Iterator[Request]:
        """Raises Cancelled."""
        wanted = AHEAD
        for taken in itertools.count():
            if taken + AHEAD // 2 >= wanted:
                wanted = taken + AHEAD
                self.want(wanted)
            request = self.arrived.get()
            if self.cancelled:
                raise Cancelled
            if request is None:
                return
            yield request

    def put(self, request: Request | None) -> None:
        """One has arrived, or None: that was the last."""
        self.arrived.put(request)

    def cancel(self) -> None:
        """Reading on raises Cancelled."""
        self.cancelled = True
        self.arrived.put(None)


class Host:
    """The engine and the calls on it, each in its own thread."""

    def __init__(self, wire: Wire, remedy: str) -> None:
        """`remedy`: what to do when memory runs out."""
        self.wire, self.remedy = wire, remedy
        self.engine: Engine | None = None
        self.holds = ""
        """The name of the weights in the engine; while others are loaded, none."""
        self.feeds: dict[int, Feed] = {}

    def serve(self) -> None:
        """Receive until `close`. Raises Gone."""
        while True:
            kind, call, content = self.wire.receive()
            feed = self.feeds.get(call)
            if kind == "close":
                return
            if kind in ("request", "end") and feed is not None:
                feed.put(content)
            elif kind == "cancel" and feed is not None:
                feed.cancel()
            elif kind in ("generate", "stream"):
                feed = self.feeds[call] = Feed(functools.partial(self.wire.send, "want", call))
                self.start(call, self.generate, call, content, feed, kind)
            elif kind == "attach":
                self.start(call, self.attach, call)
            elif kind == "swap":
                self.start(call, self.swap, content)
            elif kind == "sleep":
                self.start(call, self._engine.sleep, content)

    def start(self, call: int, work: Callable[..., None], *arguments: Any) -> None:
        """Begin a call."""
        threading.Thread(target=self.run, args=(call, work, *arguments), daemon=True).start()

    def run(self, call: int, work: Callable[..., None], *arguments: Any) -> None:
        """One call, to the message that ends it."""
        try:
            with contextlib.suppress(Cancelled):
                work(*arguments)
            self.feeds.pop(call, None)
            self.wire.send("done", call)
        except BaseException as error:
            self.report(call, error)

    def attach(self, call: int) -> None:
        """Another process goes on with this engine: nobody waits for what was asked before. Says what it holds."""
        for feed in list(self.feeds.values()):
            feed.cancel()
        self.wire.send("result", call, self.holds)

    def swap(self, placed: Placed) -> None:
        """Load other weights."""
        self.holds = ""
        self._engine.swap(placed.path)
        self.holds = placed.name

    def generate(self, call: int, expected: str, feed: Feed, kind: str = "generate") -> None:
        """One `generate` or `stream` of the engine's; returns early when it is cancelled.

        Raises EngineLost where the caller expects other weights: its answers would stand for another policy.
        """
        if expected != self.holds:
            raise EngineLost(f"it holds {self.holds or 'no weights'}, and {expected} are asked")
        answers = cast(Generator[Any], getattr(self._engine, kind)(feed))
        with contextlib.closing(answers):
            for answer in answers:
                self.wire.send("result", call, answer)
                if feed.cancelled:
                    return

    def report(self, call: int, error: BaseException) -> None:
        """Send what a call raised. The process ends if this leaves the engine unusable, or if sending fails."""
        usable = False
        try:
            traceback.print_exception(error)
            if portable(error):
                error.add_note("in the worker:\n" + "".join(traceback.format_exception(error)))
                self.wire.send("error", call, error)
                self.feeds.pop(call, None)
                usable = True
            elif out_of_memory(error):
                self.wire.send("lost", call, f"is out of memory ({first_line(error)}); {self.remedy}")
            else:
                name = "" if isinstance(error, EngineLost) else f"{type(error).__qualname__}: "
                self.wire.send("lost", call, f"failed: {name}{first_line(error)}")
        finally:
            if not usable:
                leave(1)

    @property
    def _engine(self) -> Engine:
        assert self.engine is not None
        return self.engine


def out_of_memory(error: BaseException) -> bool:
    """True for the errors of Python, CUDA and torch's CPU allocator (a plain RuntimeError), also as a cause."""
    if error.__cause__ is not None and out_of_memory(error.__cause__):
        return True
    named = {"MemoryError", "OutOfMemoryError"} & {base.__name__ for base in type(error).__mro__}
    return bool(named) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def portable(error: BaseException) -> bool:
    """Can it be raised in the parent as what it is? Unpickling a library's exception would import the library there."""
    if out_of_memory(error) or isinstance(error, EngineLost):
        return False
    module = type(error).__module__
    if module != "builtins" and not module.startswith("racro."):
        return False
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:  # a library's exception may raise anything when it is pickled or made again
        return False


def first_line(error: BaseException) -> str:
    """Of its message; the rest is in the log."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def beat(wire: Wire, pause: float, host: Host) -> None:
    """Say that this process is alive, unless its engine has sequences and makes no step with them. In a thread."""
    before = None
    with contextlib.suppress(Gone):
        while True:
            steps = host.engine.steps if host.engine else None
            if steps is None or steps != before:
                wire.send("beat")
            before = steps
            time.sleep(pause)


def remedy(role: Role, config: ModelSection) -> str:
    """What to turn down when memory runs out."""
    if config.engine.type == "transformers":
        return f"lower runtime.{'caption' if config.reads_images else 'reason'}_batch"
    return f"lower runtime.{role}.sequences, or runtime.{role}.gpu_memory (cpu_cache on a CPU)"


def leave(status: int) -> None:
    """End at once: threads of libraries must not delay it, and memory is freed in any case."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main(fd: int) -> None:
    """Serve the other end of `fd` until it says `close` or is gone."""
    os.set_inheritable(fd, False)
    wire = Wire(fd)
    _, number, content = wire.receive()
    role, config, placed, place, runtime = cast(tuple[Role, ModelSection, Placed, EnginePlacement, Runtime], content)
    host = Host(wire, remedy(role, config))
    threading.Thread(target=beat, args=(wire, min(1.0, place.silence / 4), host), daemon=True).start()
    try:
        if config.engine.type != "scripted":
            require_model(Path(placed.path), role)
        host.engine = build(role, config, placed.path, place, runtime)
        host.holds = placed.name
        wire.send("done", number)
        host.serve()
        host.engine.close()
    except Gone:
        leave(1)
    except BaseException as error:
        host.report(number, error)
        leave(1)
    leave(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
