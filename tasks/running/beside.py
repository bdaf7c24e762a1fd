"""Stages beside other stages, in threads: the captions of the next iteration while the update runs, kinds of rewards.

Prefect's task runners submit one task; what runs here is a sequence of stages in which each depends on those before.
The threads have the flow's context variables, so their task runs, logs and progress are the flow's own.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

from racro.engines.waiting import WAIT
from tasks.running import stopping
from tasks.running.engines import interrupt

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds that stopped threads have to end. One that waits for another run's lock is left alone: it begins nothing."""

logger = logging.getLogger("prefect.racro.beside")


@contextlib.contextmanager
def beside(calls: Sequence[Callable[[], T]], most: int = 1) -> Iterator[list[Future[T]]]:
    """Make the calls while the block runs, at most so many at a time; at the end of the context all have ended.

    What a call raises is in its future: the block and the other calls go on, because what they make is needed later.
    If the block raises, or is interrupted, no further stage begins, and requests in flight end with the engines that
    work on them.
    """
    _no_warnings_of_timeouts()
    sign, waiting, lock = threading.Event(), list(enumerate(calls)), threading.Lock()
    made: list[Future[T]] = [Future() for _ in calls]

    def work() -> None:
        while True:
            with lock:
                if not waiting:
                    return
                number, call = waiting.pop(0)
            try:
                stopping.require_going_on()
                made[number].set_result(call())
            except BaseException as error:  # raised again by whoever takes the result
                if not stopping.stopped():
                    logger.warning("%s; what runs beside it is finished first", _line(error))
                made[number].set_exception(error)

    with stopping.by(sign):
        contexts = [contextvars.copy_context() for _ in range(min(most, len(calls)))]
    threads = [threading.Thread(target=own.run, args=(work,), name="beside", daemon=True) for own in contexts]
    for thread in threads:
        thread.start()
    try:
        yield made
        for thread in threads:
            _join(thread)
    except BaseException:  # raised again
        sign.set()
        end = time.monotonic() + PATIENCE
        while any(thread.is_alive() for thread in threads) and time.monotonic() < end:
            interrupt()  # again and again: an engine may have been on its way
            for thread in threads:
                thread.join(WAIT / len(threads))
        raise


def together(calls: Sequence[Callable[[], T]], most: int) -> list[T]:
    """What the calls return, in their order. Raises what the first of them raises that fails, when all have ended."""
    with beside(calls, most) as made:
        pass
    return [future.result() for future in made]


def _join(thread: threading.Thread) -> None:
    """Wait for its end. Wakes regularly, so that signals and a stage's time limit are heard."""
    while thread.is_alive():
        thread.join(WAIT)
        stopping.require_going_on()


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _no_warnings_of_timeouts() -> None:
    """Prefect warns that a time limit cannot end a blocking call in a thread; engines wait in short turns instead."""
    watched = logging.getLogger("prefect.task_runs")
    if _limits_work not in watched.filters:
        watched.addFilter(_limits_work)


def _limits_work(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Timeout of %s seconds configured")
