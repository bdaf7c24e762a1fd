"""Can MLFLOW_TRACKING_URI be a store? Asked before anything starts, without MLflow, whose import takes seconds.

Whether it works is found out by `tasks.recording.store`, with MLflow.
"""

from __future__ import annotations

import importlib.metadata
import os
import socket
import time
import urllib.parse

from flows.station import local
from flows.station.local import NoServer, first_answer
from racro.storage.files import in_time

DATABASES = {"sqlite": None, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""Kinds of databases that MLflow knows, and the ports where their servers listen."""
OTHERS = ("databricks", "databricks-uc", "uc")
PLUGINS = "mlflow.tracking_store"
"""Entry points by which packages add kinds of stores."""
REMEDY = "name a database, sqlite:////path/mlflow.db, or a server, or unset it"


def require() -> None:
    """Refuse an address of a kind that MLflow does not know, or at which nobody answers. Raises NoServer."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    scheme = urllib.parse.urlsplit(uri).scheme or uri
    kind = scheme.partition("+")[0]
    if scheme in ("http", "https"):
        first_answer(uri, f"MLFLOW_TRACKING_URI: {plain(uri)} does not answer ({{}}); start it, or unset the variable")
    elif kind in DATABASES:
        _require_database(uri, DATABASES[kind])
    elif uri and scheme not in (*OTHERS, *(plugin.name for plugin in importlib.metadata.entry_points(group=PLUGINS))):
        if scheme not in ("file", uri):
            raise NoServer(f"MLFLOW_TRACKING_URI: {plain(uri)} cannot be used (MLflow has no such stores); {REMEDY}")
        if not os.environ.get("MLFLOW_ALLOW_FILE_STORE"):
            raise NoServer(
                f"MLFLOW_TRACKING_URI: {plain(uri)} cannot be used (MLflow no longer writes to folders); {REMEDY}"
            )


def _require_database(uri: str, port: int | None) -> None:
    """Raises NoServer if the database is on a server that does not let us in."""
    parts = urllib.parse.urlsplit(uri)
    try:
        address = (parts.hostname, parts.port or port)
    except ValueError as error:
        raise NoServer(f"MLFLOW_TRACKING_URI: {plain(uri)} cannot be used ({error}); {REMEDY}") from error
    if port is None or parts.hostname is None or "host=" in parts.query:
        return  # a file, or a socket of this machine
    end = time.monotonic() + local.AWAY_DEADLINE
    while True:
        try:
            socket.create_connection(address, timeout=local.AWAY_DEADLINE).close()
            return in_time(lambda: _connect(uri), max(1.0, end - time.monotonic()))
        except OSError as error:
            if time.monotonic() + 1 > end:
                raise NoServer(
                    f"MLFLOW_TRACKING_URI: {plain(uri)} does not answer ({error.strerror or error}); start it, or "
                    "unset the variable"
                ) from error
        except Exception as error:  # each driver has its own
            reason = " ".join(str(getattr(error, "orig", error)).split())[:200]
            raise NoServer(f"MLFLOW_TRACKING_URI: {plain(uri)} cannot be used ({reason}); {REMEDY}") from error
        time.sleep(1)


def _connect(uri: str) -> None:
    """A port that takes connections may say nothing more for ever."""
    from sqlalchemy import create_engine, pool

    create_engine(uri, poolclass=pool.NullPool).connect().close()


def plain(uri: str) -> str:
    """A URI without its password, in one line."""
    start, there, rest = uri.partition("://")
    return " ".join((f"{start}://{rest.rpartition('@')[2]}" if there else uri).split())
