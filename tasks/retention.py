"""Removes checkpoints that nobody needs any more.

Thin: `racro.storage.retention` chooses; MLflow knows which are in use.
"""

from __future__ import annotations

from mlflow import MlflowClient
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from racro.storage import artifacts, retention
from racro.storage.retention import Freed
from tasks.recording import store, track
from tasks.recording.runs import champions
from tasks.running import telemetry


@task(cache_policy=NO_CACHE, persist_result=False)
def prune(root: str, last: int, every: int | None, dry_run: bool) -> Freed:
    """Remove the checkpoints that `racro.storage.retention.expendable` names, one after the other."""
    client = store.client()
    running = _running(client, root)
    checkpoints = retention.find(root)
    chosen = retention.expendable(checkpoints, last, every, champions(client), set().union(*running.values()))
    gone = [one for one in chosen if one.bytes]
    for one in gone:
        if not dry_run:
            artifacts.prune(one.folder)
        get_run_logger().info("%s %s, %d bytes", "would remove" if dry_run else "removed", one.folder, one.bytes)
    rows = [{"checkpoint": one.folder, "bytes": one.bytes} for one in gone]
    telemetry.table("pruned", rows, f"Checkpoints {'to remove' if dry_run else 'removed'}")
    trainings = {one.training for one in checkpoints}
    return Freed(
        folders=tuple(one.folder for one in gone),
        bytes=sum(one.bytes for one in gone),
        kept=sum(one.bytes > 0 for one in checkpoints) - len(gone),
        running=tuple(sorted(name for name, needed in running.items() if trainings & needed)),
    )


def _running(client: MlflowClient, root: str) -> dict[str, set[str]]:
    """Runs under way on a root -> the digests of their trainings, one for each stage."""
    experiment = client.get_experiment_by_name(store.EXPERIMENT)
    if experiment is None:
        return {}
    query = f"attributes.status = 'RUNNING' and tags.`racro.root` = '{root}'"
    found = client.search_runs([experiment.experiment_id], query, max_results=1000)
    tags = ((run.info.run_name, run.data.tags.get(track.TRAINING, "")) for run in found)
    return {name: set(tag.split()) for name, tag in tags if tag}
