"""One worker: `python -m flows.station.worker [NAME]`. Reports what its predecessor lost, then is Prefect's own.

When a worker is killed, its flow run goes with it (`racro.processes.supervisor`) and nobody is left to say so. The
worker that takes its name and place does: the run has crashed, and an automation (`flows.station.registration`) has it
run again. Started by `flows.station.service_manager` and in infra/compose.yaml.
"""

from __future__ import annotations

import os
import socket
import sys

from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import StateType

from flows.station import lost
from flows.station.service_manager import POOL
from racro.processes.child import SAFE_PATH, python

UNDER_WAY = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


def main(name: str) -> None:
    """Become the worker."""
    report_lost(name)
    command = python("prefect", "worker", "start", "--pool", POOL, "--type", "process")
    # One run at a time: a training takes the machine, and what waits is taken in the order of its queue's priority.
    command += ["--name", name, "--limit", "1", "--install-policy", "never"]
    os.execve(sys.executable, command, {**os.environ, **SAFE_PATH})


def report_lost(name: str) -> None:
    """Runs that the worker of this name had, by its label, are not under way any more."""
    chosen = FlowRunFilter.model_validate({"state": {"type": {"any_": UNDER_WAY}}})
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=chosen):
            if run.labels.get("prefect.worker.name") == name:
                lost.end(client, run, f"its worker {name} was lost")


if __name__ == "__main__":
    main(*sys.argv[1:] or [socket.gethostname()])
