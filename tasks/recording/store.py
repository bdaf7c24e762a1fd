"""MLflow's tracking store: a client of one that answers, or one line that says what is wrong with it."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from mlflow import MlflowClient, get_tracking_uri
from mlflow.exceptions import MlflowException
from sqlalchemy import make_url

from racro.errors import BadInput
from racro.storage.files import full_disk_as_such, in_time
from tasks.running.locks import in_turn

EXPERIMENT = "racro"
FLOW_RUN = "prefect.flow_run_id"
"""Tag of a run: the flow run that made it, or went on with it last."""
HEALING = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_ALREADY_EXISTS")
"""MLflow's codes for what another attempt may get past; it gives a lost connection the first. What somebody else made
at the same moment is found the next time."""
MET = "IntegrityError"
"""In MLflow's words for a tag or metric that two wrote at once: another attempt finds the other's."""
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "15"}
"""For each request of MLflow's own client. By its defaults, one to a server that is away takes 4 minutes and one to a
server that hangs 16; records are tried again by `track.logged`, which knows when it is enough."""
DEADLINE = 18.0
"""Seconds for the store to answer. A server that is being restarted comes back in time; and with the start of a command
it is less than half a minute."""


class NoStore(BadInput):
    """MLflow's tracking store cannot be used."""


def client() -> MlflowClient:
    """A client of the store in MLFLOW_TRACKING_URI. Raises NoStore, within half a minute."""
    for noisy in ("alembic", "urllib3"):  # migrations of a new database
        logging.getLogger(noisy).setLevel(logging.ERROR)
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # it logs what it raises too, a page each time
    for name, value in IMPATIENT.items():
        os.environ.setdefault(name, value)
    uri = get_tracking_uri()
    with answering():
        if uri.startswith("sqlite:"):  # making a new database takes its time on a busy machine
            folder = _require_file(uri)
            with in_turn("mlflow"), full_disk_as_such(folder):  # two that made it at once would leave it broken
                _look_up(uri)
        else:
            in_time(lambda: _reach(uri), DEADLINE)
    return MlflowClient(uri)


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Within it, whatever MLflow fails with is NoStore."""
    uri = get_tracking_uri()
    try:
        yield
    except MlflowException as error:
        reason = str(error).split(". ")[0]
        raise NoStore(
            f"MLFLOW_TRACKING_URI: {plain(uri)} cannot be used ({' '.join(reason.split())[:200]}); name a database, "
            "sqlite:////path/mlflow.db, or a server, or unset it"
        ) from error
    except Exception as error:  # each kind of store has its own
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoStore(f"MLFLOW_TRACKING_URI: {plain(uri)}: {error.strerror}; make room") from error
        reason = " ".join(str(getattr(error, "reason", error)).split())[:200] or type(error).__name__
        raise NoStore(
            f"MLFLOW_TRACKING_URI: {plain(uri)} does not answer ({reason}); start it, or unset the variable"
        ) from error


def _require_file(uri: str) -> str:
    """The folder of a local database. Raises MlflowException where none can be; MLflow itself tries for two minutes."""
    database = make_url(uri).database or ":memory:"
    if database.startswith((":memory:", "file:")):
        return "."
    try:
        Path(database).parent.mkdir(parents=True, exist_ok=True)
        open(database, "ab").close()
    except OSError as error:
        raise MlflowException(str(error.strerror)) from error
    return str(Path(database).parent)


def _look_up(uri: str) -> None:
    found = MlflowClient(uri).get_experiment_by_name(EXPERIMENT)
    if found is not None and found.name != EXPERIMENT:
        raise MlflowException("something else than MLflow answers there")


def _reach(uri: str) -> None:
    """Look into a store elsewhere, once it answers anything. Raises the last failure, OSError or ValueError."""
    if uri.startswith(("http://", "https://")):
        _wait_for(f"{uri.rstrip('/')}/health")
    _look_up(uri)


def _wait_for(url: str) -> None:
    end = time.monotonic() + DEADLINE - 1  # what it fails with says more than that time is up
    while True:
        try:
            urllib.request.urlopen(url, timeout=max(1.0, min(10.0, end - time.monotonic()))).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() + 1 > end:
                raise
        time.sleep(1)


def plain(uri: str) -> str:
    """A URI without its password."""
    scheme, there, rest = uri.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if there and "@" in rest else uri
