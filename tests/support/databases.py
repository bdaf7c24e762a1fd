"""Fresh databases as copies: the first of a test run is made by Prefect's or MLflow's migrations, the next copy it.

There are hundreds of migrations, which take three to six seconds of a core, and a command in a new folder needs both
databases. Only sqlite files without any migration are filled so; servers that tests start as interpreters migrate.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import make_url


def install(folder: Path) -> None:
    """From now on in this process and its forks. `folder` keeps what is copied, for all processes of a test run."""
    from mlflow.store.db import utils
    from prefect.server.database import interface, provide_database_interface

    migrate_prefect, migrate_mlflow = interface.alembic_upgrade, utils._upgrade_db

    def of_prefect() -> None:
        _fill(folder / "prefect.db", provide_database_interface().database_config.connection_url, migrate_prefect)

    def of_mlflow(engine: Any) -> None:
        _fill(folder / "mlflow.db", engine.url, lambda: migrate_mlflow(engine))

    interface.alembic_upgrade, utils._upgrade_db = of_prefect, of_mlflow


def _fill(first: Path, url: Any, migrate: Callable[[], None]) -> None:
    where = make_url(url)
    if where.get_backend_name() != "sqlite" or not where.database or not _fresh(where.database):
        migrate()
        return
    with open(first.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if first.exists():
            _copy(first, where.database)
        else:
            migrate()
            _copy(where.database, first.with_suffix(".new"))
            os.rename(first.with_suffix(".new"), first)


def _fresh(path: str) -> bool:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()


def _copy(source: Path | str, target: Path | str) -> None:
    with contextlib.closing(sqlite3.connect(source)) as there, contextlib.closing(sqlite3.connect(target)) as here:
        there.backup(here)
