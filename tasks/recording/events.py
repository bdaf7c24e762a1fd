"""Events that automations can act on: racro.iteration.finished, .champion.changed, .drift and .failed.

`racro up --notify URL` sends the last three to people (`flows.station.notifying`). The payload has `run`, `line` (a
sentence for people) and figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect import Flow, runtime
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event

from tasks.running.telemetry import attempt

ITERATION = "racro.iteration.finished"
CHAMPION = "racro.champion.changed"
DRIFT = "racro.drift"
FAILED = "racro.failed"
LONGEST = 600
"""Characters of a sentence; a traceback is no sentence."""


def emit(event: str, run: str, line: str, figures: Mapping[str, Any], flow_run_id: str | None = None) -> None:
    """Tell Prefect. run: the name of the training or evaluation. Outside of a flow run nobody is told.

    There Prefect would start a server for the event, which would outlive this process.
    """
    if not (identity := flow_run_id or runtime.flow_run.id):
        return
    related = {"prefect.resource.id": f"prefect.flow-run.{identity}"}
    attempt(
        "an event in Prefect",
        lambda: emit_event(
            event=event,
            resource={"prefect.resource.id": f"racro.run.{run}", "prefect.resource.name": run},
            related=[{**related, "prefect.resource.role": "racro-run"}],
            payload={"run": run, "line": " ".join(line.split())[:LONGEST], **figures},
        ),
    )


def failed(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook of flows: a run has failed, and its retries are over."""
    emit(FAILED, flow_run.name, state.message or "it raised an error", {"flow": flow.name}, str(flow_run.id))
