"""Flow runs that a command left under way when it was killed: the next command says that they have crashed.

A command that gets SIGKILL, or has no power any more, takes its Prefect server with it and can tell nobody. While a
command lives it holds a lock of the kernel, on a file that says since when. What began before the oldest living command
has nobody. Runs of deployments belong to workers (`flows.station.worker`). Called by `flows.station.local`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

MANY = 200
"""Runs that are looked at in one request, Prefect's limit."""


@contextlib.contextmanager
def living(home: Path) -> Iterator[datetime]:
    """Count as a living command in this context; yields since when the oldest of them lives."""
    from tasks.running.locks import in_turn

    folder = home / "commands"
    folder.mkdir(parents=True, exist_ok=True)
    mine = folder / f"{time.time_ns()}-{os.getpid()}"
    with open(mine, "ab") as held:
        with in_turn("commands"):
            fcntl.flock(held, fcntl.LOCK_EX)
            since = min(int(file.name.partition("-")[0]) for file in folder.iterdir() if _has_somebody(file))
        try:
            yield datetime.fromtimestamp(since / 1e9, UTC)
        finally:
            mine.unlink(missing_ok=True)


def _has_somebody(file: Path) -> bool:
    """Does its command live? Otherwise it is removed."""
    with open(file, "ab") as tried:
        try:
            fcntl.flock(tried, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        file.unlink(missing_ok=True)
        return False


def report(since: datetime) -> None:
    """End the flow runs of commands that began before that, and their runs in MLflow. A failure is a warning."""
    from tasks.running import telemetry

    if found := telemetry.attempt("the end of a killed command in Prefect", lambda: _end_flow_runs(since)):
        telemetry.attempt("the end of a killed command in MLflow", lambda: _end_mlflow_runs(found))


def _end_flow_runs(since: datetime) -> list[UUID]:
    from prefect import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.objects import StateType

    under_way = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED]
    chosen = FlowRunFilter.model_validate({"state": {"type": {"any_": under_way}}, "deployment_id": {"is_null_": True}})
    ended: list[UUID] = []
    with get_client(sync_client=True) as client:
        offset = 0
        while runs := client.read_flow_runs(flow_run_filter=chosen, limit=MANY, offset=offset):
            dead = [run for run in runs if run.created is not None and run.created < since]
            offset += len(runs) - len(dead)
            for run in dead:
                end(client, run, "its command was killed")
                ended.append(run.id)
    return ended


def _end_mlflow_runs(flow_runs: list[UUID]) -> None:
    from tasks.recording import runs, store

    runs.end_lost(store.client(), [str(one) for one in flow_runs])


def end(client: SyncPrefectClient, run: FlowRun, why: str) -> None:
    """Say that a run is not under way any more."""
    from prefect.client.schemas.objects import State, StateType
    from prefect.states import Cancelled, Crashed

    cancelled = run.state_type == StateType.CANCELLING
    state: State = Cancelled() if cancelled else Crashed(message=why)
    client.set_flow_run_state(run.id, state)
