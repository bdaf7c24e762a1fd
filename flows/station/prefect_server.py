"""Prefect's server, as the rest of this package starts it: `python -m flows.station.prefect_server HOST PORT [SIGNAL]`.

Prefect's own application under uvicorn. Three things differ, all for sqlite's sake:

Transactions that may write take the write lock at their beginning. Prefect takes it at the first write, which sqlite
refuses at once where another has written since the beginning: "database is locked" for workers, and after five such
refusals an event that should have resumed a crashed run is dropped.

Garbage is collected by a thread of its own. A request that is cancelled, as those of a killed flow run are, leaves an
open cursor in a reference cycle. To free it takes the mutex of its connection, which another statement holds while it
waits for the write lock, up to 60 s; where Python's collector happens to run on the event loop, the loop stands still
meanwhile, and with it the transaction that has the lock.

A change of an automation does not wait for the cache of automations. Prefect's listener waits for it on the event loop,
for a lock whose holder needs that loop: the server stands still for 60 s or for good (PrefectHQ/prefect#23055).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import threading
import time
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

if __name__ == "__main__":
    gc.disable()  # also while these are imported

import uvicorn
from prefect.server.database import provide_database_interface
from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.server.database.dependencies import temporary_database_config
from prefect.server.events.models import automations
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

YOUNG, ALL = 1.0, 60.0
"""Seconds between collections of what is new, and of everything."""


class Sqlite(AioSqliteConfiguration):
    """Writers wait for each other."""

    @asynccontextmanager
    async def begin_transaction(
        self, session: AsyncSession, with_for_update: bool = True
    ) -> AsyncGenerator[AsyncSessionTransaction, None]:
        """A transaction with the write lock, whatever it is for."""
        async with super().begin_transaction(session, with_for_update=True) as transaction:
            yield transaction


class Later:
    """Runs coroutines on the loop that it is called from, without waiting for them; a failure is logged."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()  # the loop itself keeps no hold of them

    def __call__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Begin one."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logging.getLogger(__name__).error("the cache of automations was not brought up to date: %s", error)


class Server(uvicorn.Server):
    """Ends in order at one signal."""

    stop: int

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle that signal."""
        signal.signal(self.stop, self.handle_exit)
        yield


def main(host: str, port: int, stop: int = signal.SIGTERM) -> None:
    """Serve until the signal `stop`. Other requests to end are ignored if it is not SIGTERM."""
    if stop != signal.SIGTERM:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    from prefect.server.api.server import create_app

    automations.run_coro_as_sync = Later()  # type: ignore[assignment]
    config = provide_database_interface().database_config
    if isinstance(config, AioSqliteConfiguration):
        config = Sqlite(connection_url=config.connection_url)
    gc.freeze()  # what the imports made stays, and need not be looked through again
    threading.Thread(target=_collect, name="garbage", daemon=True).start()
    with temporary_database_config(config):
        server = Server(uvicorn.Config(create_app, factory=True, host=host, port=port, log_level="warning"))
        server.stop = stop
        server.run()
    if not server.started:
        sys.exit(3)


def _collect() -> None:
    last = time.monotonic()
    while True:
        time.sleep(YOUNG)
        if (now := time.monotonic()) - last > ALL:
            last = now
            gc.collect()
        else:
            gc.collect(1)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
