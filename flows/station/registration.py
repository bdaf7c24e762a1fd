"""What a Prefect server is told about this project: work pool, queues, deployments, automations, result storage.

Everything here may run again: what is there is brought up to date. A schedule that was switched on stays on. Not here:
processes (`flows.station.servers`); the deployments themselves, which are in `flows/prefect.yaml`. Called by
`racro up` and `racro register`.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from prefect import get_client
from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import StateType, WorkerStatus
from prefect.events.actions import ChangeFlowRunState
from prefect.exceptions import ObjectAlreadyExists, PrefectHTTPStatusError
from prefect.workers.process import ProcessWorker

from flows.station import notifying
from flows.station.servers import NOBODY
from flows.station.service_manager import POOL
from racro.config import loading
from racro.processes.child import SAFE_PATH, python

DEPLOYMENTS = Path(__file__).parents[1] / "prefect.yaml"
"""Deployments of flows in `flows.deployed`."""
FULL = "train-full"
"""The deployment whose form has every key, so that it wants the content of its recipe, not the name."""
QUEUES = ("questions", "training", "sweeps")
"""Of the pool; the first is the most urgent, Prefect's own `default` comes after them."""
TAG = "resumes"
"""Of deployments whose runs go on where they were when they are run again."""
OURS: dict[str, str | list[str]] = {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"}
"""What events of such runs are related to."""
STARTS = 5
"""How often a run is started at most, when it crashes every time."""


class RegistrationFailed(RuntimeError):
    """Prefect did not take a deployment; the message has its words."""


def register(root: str, silence: int, notify: str | None = None) -> list[str]:
    """Tell the server at PREFECT_API_URL everything. Returns the deployments' names. Raises RegistrationFailed.

    root: where the deployments' runs go. silence: seconds after which a run that gives no sign of life has crashed.
    notify: URL to which people's messages go; NOBODY: nowhere; None: as before.
    """
    with get_client(sync_client=True) as client:
        register_pool(client, POOL)
        names = register_deployments(client, root)
        register_automations(client, silence)
        if notify is not None:
            register_notifications(client, notify)
    from tasks.running.policies import record_storage

    record_storage(root)
    return names


def register_pool(client: SyncPrefectClient, name: str) -> None:
    """A work pool of processes, with its queues in their order."""
    template = ProcessWorker.get_default_base_job_template()
    with contextlib.suppress(ObjectAlreadyExists):  # before, or by a request whose answer was lost
        client.create_work_pool(WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template))
    client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))
    for priority, queue in enumerate(QUEUES, 1):  # each takes its place and moves the rest down, `default` to the end
        with contextlib.suppress(ObjectAlreadyExists):
            client.create_work_queue(queue, priority=priority, work_pool_name=name)


def register_deployments(client: SyncPrefectClient, root: str) -> list[str]:
    """The deployments of flows/prefect.yaml, by Prefect's own command. Raises RegistrationFailed."""
    on = {(d.id, s.slug) for d in client.read_deployments() for s in d.schedules if s.active}
    environment = {**os.environ, **SAFE_PATH, "RACRO_ROOT": root}
    with tempfile.TemporaryDirectory(prefix="racro-deploy-") as folder:
        # There, because Prefect imports the flows with the working directory first on the path.
        Path(folder, "prefect.yaml").write_text(yaml.safe_dump(deployments()))
        command = python("prefect", "--no-prompt", "deploy", "--all")
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    if done.returncode != 0:
        raise RegistrationFailed(f"{DEPLOYMENTS}: {' '.join((done.stdout + done.stderr).split())[-600:]}")
    registered = client.read_deployments()
    for deployment in registered:
        for schedule in deployment.schedules:
            if (deployment.id, schedule.slug) in on and not schedule.active:
                client.update_deployment_schedule(deployment.id, schedule.id, active=True)
    flows = {flow.id: flow.name for flow in client.read_flows()}
    return sorted(f"{flows[deployment.flow_id]}/{deployment.name}" for deployment in registered)


def deployments() -> dict[str, Any]:
    """The content of flows/prefect.yaml, with the recipe of the full form. Raises BadRecipe."""
    content: dict[str, Any] = yaml.safe_load(DEPLOYMENTS.read_text())
    for deployment in content["deployments"]:
        if deployment["name"] == FULL:
            parameters = deployment["parameters"]
            parameters["recipe"] = loading.load(parameters["recipe"]).model_dump(mode="json")
    return content


def register_notifications(client: SyncPrefectClient, notify: str) -> None:
    """Who is told of failures, drift and new champions; NOBODY: the automations are removed."""
    if notify != NOBODY:
        for automation in notifying.automations(notify, STARTS, OURS):
            _register_automation(client, automation)
        return
    for name in notifying.NAMES:
        for known in client.read_automations_by_name(name):
            _remove(client, known.id)


def register_automations(client: SyncPrefectClient, silence: int) -> None:
    """A run that gives no sign of life has crashed; a crashed run is run again, a few times."""
    run = "prefect.resource.id"
    silent = AutomationCore(
        name="racro: a silent run has crashed",
        description=f"No sign of life for {silence} s: its process, its worker or its machine is gone.",
        trigger=EventTrigger(
            match={run: "prefect.flow-run.*"},
            match_related=OURS,
            after={"prefect.flow-run.heartbeat", "prefect.flow-run.Running"},
            expect={"prefect.flow-run.*"},
            for_each={run},
            posture=Posture.Proactive,
            threshold=1,
            within=datetime.timedelta(seconds=silence),
        ),
        actions=[_change(StateType.CRASHED, f"no sign of life for {silence} s")],
    )
    resumed = AutomationCore(
        name="racro: a crashed run is resumed",
        description=f"What it had finished comes from the cache. At most {STARTS} starts.",
        trigger=EventTrigger(
            match={run: "prefect.flow-run.*", "prefect.run-count": [str(n) for n in range(STARTS)]},
            match_related=OURS,
            expect={"prefect.flow-run.Crashed"},
            for_each={run},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[_change(StateType.SCHEDULED, "resumed after a crash")],
    )
    for automation in (silent, resumed):
        _register_automation(client, automation)


def _register_automation(client: SyncPrefectClient, automation: AutomationCore) -> None:
    """Create or update the automation of this name, and remove duplicates.

    There are some when the server made an automation and its answer was lost: the client then asked again.
    """
    known = client.read_automations_by_name(automation.name)
    if not known:
        client.create_automation(automation)
        known = client.read_automations_by_name(automation.name)
    kept, *duplicates = sorted(known, key=lambda one: str(one.id))
    for duplicate in duplicates:
        _remove(client, duplicate.id)
    automation.enabled = any(one.enabled for one in known)
    # Only when needed: a change can hang a server on sqlite that `racro up` did not start (PrefectHQ/prefect#23055).
    if _content(automation) != _content(kept):
        changed = AutomationCore.model_validate(_content(automation))
        with _if_there():  # else another one registers now, and removed it as a duplicate of its own
            client.update_automation(kept.id, changed)


def _remove(client: SyncPrefectClient, automation: UUID) -> None:
    with _if_there():  # else removed by a request whose answer was lost, or by another one that registers now
        client.delete_automation(automation)


@contextlib.contextmanager
def _if_there() -> Iterator[None]:
    try:
        yield
    except PrefectHTTPStatusError as error:  # the client says that it takes 404 for done, and raises
        if error.response.status_code != HTTPStatus.NOT_FOUND:
            raise


def _content(automation: AutomationCore) -> dict[str, Any]:
    return automation.model_dump(include={*AutomationCore.model_fields} - {"owner_resource"})


def _change(state: StateType, message: str) -> ChangeFlowRunState:
    return ChangeFlowRunState(name=None, state=state, message=message, force=False)


def wait_for_workers(count: int, deadline: float = 120.0) -> bool:
    """Wait until that many workers are there; False when they are not."""
    end = time.monotonic() + deadline
    with get_client(sync_client=True) as client:
        while time.monotonic() < end:
            workers = client.read_workers_for_work_pool(POOL)
            if sum(worker.status == WorkerStatus.ONLINE for worker in workers) >= count:
                return True
            time.sleep(0.2)
    return False
