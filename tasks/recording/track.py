"""MLflow: one run per training, a logged model and a registered version per evaluated policy.

Everything here may run again (a retried task, a resumed run): metrics carry the time their stage finished, so the same
point is the same point; models and tables are looked up before they are made. Not here: what the numbers mean.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.exceptions import MlflowException
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from racro.config import Recipe
from racro.data.statistics import Statistics
from racro.identity import digest
from racro.schema import CHAMPION, EntryTable, FrozenModel, Policy, ProblemTable
from racro.storage.retention import training_digest
from racro.summary import Score

EXPERIMENT = "racro"
TRAINING = "racro.training"
"""Tag of a run: the checkpoints that it makes, or may need."""
PARENT = "RACRO_PARENT_RUN"
"""Environment variable with the MLflow run below which those of this process stand: a sweep's."""

# A server may be away for a minute; a training must not be lost for want of a chart.
logged = task(cache_policy=NO_CACHE, persist_result=False, retries=5, retry_delay_seconds=[1, 2, 5, 15, 40])


@logged
def open_run(recipe: Recipe, recipe_digest: str, run: str, root: str) -> str:
    """The MLflow run of this training: the one that a killed or repeated run began, or a new one. Returns its id."""
    for noisy in ("alembic", "mlflow"):  # migrations of a new database, start and stop of the monitor
        logging.getLogger(noisy).setLevel(logging.WARNING)
    client = MlflowClient()
    experiment = experiment_id(client)
    identity = {"racro.run": run, "racro.root": root, "racro.recipe_digest": recipe_digest}
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in identity.items())
    found = client.search_runs([experiment], query, max_results=1)
    if found:
        run_id = found[0].info.run_id
        client.update_run(run_id, status="RUNNING")
    else:
        run_id = client.create_run(experiment, tags=identity, run_name=run).info.run_id
        client.log_batch(run_id, params=[Param(k, v[:500]) for k, v in _flat(recipe.model_dump(mode="json"))])
    client.set_tag(run_id, TRAINING, training_digest(recipe))
    client.set_tag(run_id, "prefect.flow_run_id", flow_run.id or "")
    if url := flow_run.ui_url:
        client.set_tag(run_id, "prefect.flow_run_url", url)
    if parent := os.environ.get(PARENT):
        client.set_tag(run_id, "mlflow.parentRunId", parent)
    return run_id


@logged
def log_problems(run_id: str, context: str, problems: ProblemTable, statistics: Statistics) -> None:
    """The data set of the run, with the counts of its preparation."""
    source = json.dumps({"uri": problems.uri})
    profile = statistics.model_dump_json()
    data = Dataset(f"problems-{context}", problems.digest[:32], "local", source, profile=profile)
    MlflowClient().log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", context)])])


@logged
def log_iteration(run_id: str, iteration: int, finished: float, metrics: dict[str, float]) -> None:
    """Metrics of one iteration; step = iteration. finished: seconds since the epoch."""
    _log(run_id, iteration, finished, metrics)


@logged
def log_table(run_id: str, name: str, rows: list[dict[str, Any]]) -> None:
    """A table of samples as an artifact of the run."""
    client = MlflowClient()
    if not rows or any(item.path == name for item in client.list_artifacts(run_id, name.rpartition("/")[0])):
        return
    client.log_table(run_id, {key: [row[key] for row in rows] for key in rows[0]}, name)


class Judge(NamedTuple):
    """By what the policies of a recipe are compared: reasoner and held-out problems."""

    reasoner: FrozenModel
    heldout: ProblemTable


def registered_name(judge: Judge) -> str:
    """The registered model of the policies that this judge compared."""
    return f"captioner-{digest(list(judge))[:8]}"


@logged
def log_evaluation(
    run_id: str,
    iteration: int,
    finished: float,
    policy: Policy,
    judge: Judge,
    evaluation: EntryTable,
    score: Score,
    metrics: dict[str, float],
) -> None:
    """An evaluated policy: metrics, a logged model, a registered version, the alias `champion` on the best one.

    Versions of one registered model have the same judge, so they are comparable.
    """
    client = MlflowClient()
    experiment_id = client.get_run(run_id).info.experiment_id
    tags = {
        "racro.policy": policy.digest,
        "racro.policy_uri": policy.uri,
        "racro.evaluation": evaluation.digest,
        "racro.run_id": run_id,
        "racro.iteration": str(iteration),
        "racro.accuracy": f"{score.accuracy:.6f}",
        "racro.accuracy_stderr": f"{score.stderr:.6f}",
        "racro.n": str(score.n),
    }
    model_id = _logged_model(client, experiment_id, run_id, iteration, tags)
    _log(run_id, iteration, finished, metrics, model_id, judge.heldout)
    registered = registered_name(judge)
    version = _version(client, registered, run_id, model_id, tags)
    _crown(client, registered, version, score.accuracy)


@logged
def close_run(run_id: str, files: dict[str, str]) -> None:
    """Mark the run finished; files: name -> text, kept as artifacts."""
    client = MlflowClient()
    for name, text in files.items():
        client.log_text(run_id, text, name)
    client.set_terminated(run_id, "FINISHED")


@contextlib.contextmanager
def system_metrics(run_id: str) -> Iterator[None]:
    """CPU, memory, disk, network and GPU of this machine, while the context lasts."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, sampling_interval=5, resume_logging=True)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def fail_run(run_id: str) -> None:
    """Mark the run failed; the next attempt takes it up again."""
    with contextlib.suppress(MlflowException):
        MlflowClient().set_terminated(run_id, "FAILED")


def experiment_id(client: MlflowClient) -> str:
    """The experiment; made where there is none, with artifacts beside a local sqlite store.

    MLflow's default would be the working directory.
    """
    if experiment := client.get_experiment_by_name(EXPERIMENT):
        return str(experiment.experiment_id)
    uri = mlflow.get_tracking_uri()
    local = uri.removeprefix("sqlite:///")
    place = f"{local.rpartition('/')[0]}/artifacts" if local != uri else None
    try:
        return str(client.create_experiment(EXPERIMENT, artifact_location=place))
    except MlflowException:  # another run created it in between
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            raise
        return str(experiment.experiment_id)


def _log(
    run_id: str,
    step: int,
    finished: float,
    metrics: dict[str, float],
    model_id: str | None = None,
    data: ProblemTable | None = None,
) -> None:
    tie = {"dataset_name": "problems-heldout", "dataset_digest": data.digest[:32]} if data else {}
    # Names hold categories, which are anybody's words: "(GradeSchool) Geometric" is no name to MLflow.
    named = {re.sub(r"[^\w/. :-]", "_", name): value for name, value in metrics.items()}
    points = [Metric(k, v, int(finished * 1000), step, model_id=model_id, **tie) for k, v in named.items()]
    MlflowClient().log_batch(run_id, metrics=points)


def _logged_model(client: MlflowClient, experiment_id: str, run_id: str, iteration: int, tags: dict[str, str]) -> str:
    name = f"captioner-iteration-{iteration}"
    known = client.search_logged_models([experiment_id], f"name = '{name}' AND source_run_id = '{run_id}'")
    if known:
        return str(known[0].model_id)
    model = client.create_logged_model(experiment_id, name, source_run_id=run_id, tags=tags, model_type="captioner")
    client.finalize_logged_model(model.model_id, "READY")
    return str(model.model_id)


def _version(client: MlflowClient, name: str, run_id: str, model_id: str, tags: dict[str, str]) -> str:
    with contextlib.suppress(MlflowException):  # it exists
        client.create_registered_model(name)
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.tags.get("racro.policy") == tags["racro.policy"] and version.run_id == run_id:
            return str(version.version)
    return str(client.create_model_version(name, f"models:/{model_id}", run_id, tags=tags, model_id=model_id).version)


def _crown(client: MlflowClient, name: str, version: str, accuracy: float) -> None:
    """Move the alias when this version is the best so far."""
    try:
        best = client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException:
        best = None
    if best is None or accuracy > float(best.tags.get("racro.accuracy", "-1")):
        client.set_registered_model_alias(name, CHAMPION, version)


def _flat(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested configuration as dotted parameters."""
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(item) if isinstance(item, list) else str(item)
