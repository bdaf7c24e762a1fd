"""Calls of MLflow that a signal does not cut off in the middle.

A signal's exception may fall between any two lines of the main thread. Inside of SQLAlchemy it leaves a transaction
open, and a local database stays locked for as long as the exception is handled: what then says how the run ended is
lost. In a thread of its own the call ends first.
"""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE = 10.0
"""Seconds that a call has to end once a signal has come; one that waits for a server that is away takes longer."""


def undisturbed(body: Callable[P, T]) -> Callable[P, T]:
    """The same function; in the main thread, which receives the signals, it runs beside. Returns and raises alike."""

    @functools.wraps(body)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if threading.current_thread() is not threading.main_thread():
            return body(*args, **kwargs)
        result: Future[T] = Future()
        context = contextvars.copy_context()

        def work() -> None:
            try:
                result.set_result(context.run(body, *args, **kwargs))
            except BaseException as error:  # raised again where it was called
                result.set_exception(error)

        thread = threading.Thread(target=work, name=f"undisturbed {body.__name__}", daemon=True)
        thread.start()
        try:
            thread.join()
        except BaseException:
            thread.join(PATIENCE)
            raise
        return result.result()

    return call
