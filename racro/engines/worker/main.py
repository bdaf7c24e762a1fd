"""The program in a worker's process: builds an engine, serves calls on it, says every moment that it lives.

    python -m racro.engines.worker.main FD

Not an engine; the other side of `racro.engines.worker.client`, which starts it. FD is its end of a socket pair. What it
prints goes to the log, so nothing that a library prints can be taken for a message. Messages are (kind, call, content):

    to the worker      generate (total, sampling)   prompt (index, prompt, seed)   cancel   swap folder   rest   close
    from the worker    result Generation   want index   done   error exception   lost text   beat
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast, overload

from racro.config import Captioner, EnginePlacement, Reasoner, Runtime
from racro.engines.opening import build
from racro.engines.protocol import Engine, EngineLost, Prompt, Role, Sampling
from racro.models.folders import require_model

AHEAD = 256
"""Prompts of a call that are sent before the engine reads them; decoded images are large."""


class Gone(Exception):
    """The other side of the wire has ended."""


class Cancelled(Exception):
    """Nobody wants the results of this call any more."""


class Wire:
    """One end of a socket pair. Messages are sent whole, from any thread; one thread receives."""

    def __init__(self, fd: int) -> None:
        self.connection = Connection(fd)
        self.lock = threading.Lock()

    def send(self, kind: str, call: int = 0, content: Any = None) -> None:
        """Raises Gone, and what pickle raises for contents that cannot be sent."""
        data = pickle.dumps((kind, call, content), protocol=5)
        with self.lock:
            try:
                self.connection.send_bytes(data)
            except OSError as error:
                raise Gone from error

    def receive(self) -> tuple[str, int, Any]:
        """The next message. Raises Gone."""
        try:
            data = self.connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise Gone from error
        message: tuple[str, int, Any] = pickle.loads(data)
        return message

    def close(self) -> None:
        """Nothing can be sent or received any more."""
        with self.lock:
            self.connection.close()


class Feed(Sequence[Prompt]):
    """The prompts of a call, as they arrive: reading one waits for it. Each can be read once; then it is forgotten."""

    def __init__(self, total: int, want: Callable[[int], None]) -> None:
        """`want` asks for all prompts below an index; those below AHEAD come unasked."""
        self.total, self.want = total, want
        self.prompts: dict[int, Prompt] = {}
        self.seeds: dict[int, int] = {}
        self.wanted = AHEAD
        self.cancelled = False
        self.changed = threading.Condition()

    def __len__(self) -> int:
        return self.total

    @overload
    def __getitem__(self, index: int) -> Prompt: ...
    @overload
    def __getitem__(self, index: slice) -> list[Prompt]: ...
    def __getitem__(self, index: int | slice) -> Prompt | list[Prompt]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.total))]
        self.wait(index)
        with self.changed:
            if index not in self.prompts:
                raise RuntimeError(f"the engine read prompt {index} twice")
            return self.prompts.pop(index)

    def put(self, index: int, prompt: Prompt, seed: int) -> None:
        """One has arrived."""
        with self.changed:
            self.prompts[index], self.seeds[index] = prompt, seed
            self.changed.notify_all()

    def cancel(self) -> None:
        """Whoever reads on gets Cancelled."""
        with self.changed:
            self.cancelled = True
            self.changed.notify_all()

    def wait(self, index: int) -> None:
        """Return when it has arrived. Raises Cancelled and IndexError."""
        if not 0 <= index < self.total:
            raise IndexError(index)
        with self.changed:
            if index + AHEAD // 2 >= self.wanted and self.wanted < self.total:
                self.wanted = index + AHEAD
                self.want(self.wanted)
            self.changed.wait_for(lambda: self.cancelled or index in self.seeds)
            if self.cancelled:
                raise Cancelled


class Seeds(Sequence[int]):
    """The seeds of a feed's prompts."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed

    def __len__(self) -> int:
        return len(self.feed)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> list[int]: ...
    def __getitem__(self, index: int | slice) -> int | list[int]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        self.feed.wait(index)
        return self.feed.seeds[index]


class Host:
    """The engine and the calls on it, each in a thread of its own."""

    def __init__(self, wire: Wire, remedy: str) -> None:
        """`remedy`: what to do when memory runs out."""
        self.wire, self.remedy = wire, remedy
        self.engine: Engine | None = None
        self.feeds: dict[int, Feed] = {}

    def serve(self) -> None:
        """Receive until `close`. Raises Gone."""
        while True:
            kind, call, content = self.wire.receive()
            feed = self.feeds.get(call)
            if kind == "close":
                return
            if kind == "prompt" and feed is not None:
                feed.put(*content)
            elif kind == "cancel" and feed is not None:
                feed.cancel()
            elif kind == "generate":
                total, sampling = content
                feed = self.feeds[call] = Feed(total, functools.partial(self.wire.send, "want", call))
                self.start(call, self.generate, call, feed, sampling)
            elif kind == "swap":
                self.start(call, self._engine.swap, content)
            elif kind == "rest":
                self.start(call, self._engine.rest)

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

    def generate(self, call: int, feed: Feed, sampling: Sampling) -> None:
        """One `generate` of the engine's; returns early when it is cancelled."""
        generations = cast(Generator[Any], self._engine.generate(feed, sampling, Seeds(feed)))
        with contextlib.closing(generations):
            for generation in generations:
                self.wire.send("result", call, generation)
                if feed.cancelled:
                    return

    def report(self, call: int, error: BaseException) -> None:
        """Send what a call raised. Whatever leaves the engine unusable, a failed report included, ends the process."""
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
    """Python's, CUDA's, or that of torch's allocator on CPUs, which has no type of its own; here or at the bottom."""
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
    """Say that this process lives, and not when its engine has sequences and makes no step with them. In a thread."""
    before = None
    with contextlib.suppress(Gone):
        while True:
            steps = host.engine.steps if host.engine else None
            if steps is None or steps != before:
                wire.send("beat")
            before = steps
            time.sleep(pause)


def remedy(role: Role, config: Captioner | Reasoner) -> str:
    """What to turn down when memory runs out."""
    if config.engine.type == "transformers":
        return f"lower runtime.{'caption' if role == 'captioner' else 'reason'}_batch"
    return f"lower runtime.{role}.sequences, or runtime.{role}.gpu_memory (cpu_cache on a CPU)"


def leave(status: int) -> None:
    """End at once: threads of libraries may not hold it up, and memory comes back anyhow."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main(fd: int) -> None:
    """Serve the other end of `fd` until it says `close` or is gone."""
    os.set_inheritable(fd, False)
    wire = Wire(fd)
    role, config, folder, place, runtime = cast(
        tuple[Role, Captioner | Reasoner, str, EnginePlacement, Runtime], wire.receive()[2]
    )
    host = Host(wire, remedy(role, config))
    threading.Thread(target=beat, args=(wire, min(1.0, place.silence / 4), host), daemon=True).start()
    try:
        if config.engine.type != "scripted":
            require_model(Path(folder), role)
        host.engine = build(role, config, folder, place, runtime)
        wire.send("done")
        host.serve()
        host.engine.close()
    except Gone:
        leave(1)
    except BaseException as error:
        host.report(0, error)
        leave(1)
    leave(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
