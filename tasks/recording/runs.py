"""What MLflow knows of the runs of a root: which are under way, how the others ended, whose policy is champion."""

from __future__ import annotations

from collections.abc import Sequence

from mlflow import MlflowClient
from mlflow.entities import Run

from racro.schema import CHAMPION
from tasks.recording import registry
from tasks.recording.store import EXPERIMENT, FLOW_RUN

LIMIT = 1000
"""Most runs that are looked at, the newest ones."""


def statuses(client: MlflowClient, root: str) -> dict[str, str]:
    """Name of a run -> RUNNING, FINISHED, FAILED or KILLED; of several runs under a name, the newest."""
    found = _search(client, f"tags.`racro.root` = '{root}'")
    return {run.data.tags.get("racro.run", run.info.run_name): run.info.status for run in reversed(found)}


def rename(client: MlflowClient, root: str, old: str, new: str) -> None:
    """Let the same command under the new name go on with the run."""
    for run in _search(client, f"tags.`racro.root` = '{root}' and tags.`racro.run` = '{old}'"):
        client.set_tag(run.info.run_id, "racro.run", new)
        client.update_run(run.info.run_id, name=new)


def end_lost(client: MlflowClient, flow_runs: Sequence[str]) -> None:
    """Mark runs as killed whose flow runs were, unless another flow run goes on with them."""
    for one in flow_runs:
        for run in _search(client, f"attributes.status = 'RUNNING' and tags.`{FLOW_RUN}` = '{one}'"):
            client.set_terminated(run.info.run_id, "KILLED")


def champions(client: MlflowClient) -> set[str]:
    """Digests of the best policies, one for each way of judging them."""
    best = [client.get_model_version_by_alias(model.name, CHAMPION) for model in registry.crowned(client)]
    return {version.tags["racro.policy"] for version in best}


def _search(client: MlflowClient, query: str) -> list[Run]:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return []
    order = ["attributes.start_time DESC"]
    return list(client.search_runs([experiment.experiment_id], query, max_results=LIMIT, order_by=order))
