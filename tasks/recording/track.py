"""MLflow: one run per training, a logged model and a registered version per evaluated policy.

Everything here may run again (a retried task, a resumed run): metrics carry the time their stage finished, so the same
point is the same point; models and tables are looked up before they are made. Once a run is open, a store that is away
costs records, never the run (`recorded`); the same command records what is missing. Not here: what the numbers mean.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, ParamSpec

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run

from racro.config import Recipe
from racro.data import statistics
from racro.identity import digest, judging_digest
from racro.schema import CHAMPION, EntryTable, FrozenModel, Policy, ProblemTable
from racro.storage.retention import training_digest
from racro.summary import Score
from tasks.recording import store
from tasks.recording.store import EXPERIMENT
from tasks.running.telemetry import attempt

TRAINING = "racro.training"
"""Tag of a run: the checkpoints that it makes, or may need."""
JUDGING = "racro.judging"
"""Tag of a run: by what its policies are compared."""
PARENT = "RACRO_PARENT_RUN"
"""Environment variable with the MLflow run below which those of this process stand: a sweep's."""

P = ParamSpec("P")

HEALING = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
"""MLflow's codes for what another attempt may get past; it gives a lost connection the first."""


class Judge(NamedTuple):
    """By what policies are compared."""

    reasoner: FrozenModel
    heldout: ProblemTable


def may_heal(task: Task[..., Any], run: TaskRun, state: State) -> bool:
    """Prefect's retry condition: the server was away, not the request wrong."""
    try:
        state.result()
    except MlflowException as error:
        return error.error_code in HEALING
    except (OSError, TimeoutError, RuntimeError):
        return True
    except Exception:  # a mistake, of the request or of ours: not tried again, and Prefect raises it
        return False
    return False


# A server may be away for a minute.
logged = task(
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=5,
    retry_delay_seconds=[1, 2, 5, 15, 40],
    retry_condition_fn=may_heal,
)


_away = threading.Event()
"""The last record was lost, so the next one is attempted once only."""


def recorded(body: Callable[P, None]) -> Callable[P, None]:
    """A task that records something, tried again for a minute; then a warning, and the flow goes on without it."""
    patient = logged(body)
    brief = patient.with_options(retries=0)

    @functools.wraps(body)
    def record(*args: P.args, **kwargs: P.kwargs) -> None:
        def send() -> bool:
            (brief if _away.is_set() else patient)(*args, **kwargs)
            return True

        if attempt("something in MLflow", send):
            _away.clear()
        else:
            _away.set()

    return record


@logged
def open_run(recipe: Recipe, recipe_digest: str, run: str, root: str) -> str:
    """The MLflow run of this training: the one that a killed or repeated run began, or a new one. Returns its id.

    Raises NoStore.
    """
    client = store.client()
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
    client.set_tag(run_id, JUDGING, judging_digest(recipe))
    client.set_tag(run_id, "prefect.flow_run_id", flow_run.id or "")
    if url := flow_run.ui_url:
        client.set_tag(run_id, "prefect.flow_run_url", url)
    if parent := os.environ.get(PARENT):
        client.set_tag(run_id, "mlflow.parentRunId", parent)
    return run_id


@recorded
def log_problems(run_id: str, context: str, problems: ProblemTable) -> None:
    """The data set of the run, with the counts of its preparation."""
    source = json.dumps({"uri": problems.uri})
    profile = statistics.read(problems).model_dump_json()
    data = Dataset(f"problems-{context}", problems.digest[:32], "local", source, profile=profile)
    MlflowClient().log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", context)])])


@recorded
def log_iteration(run_id: str, iteration: int, finished: float, metrics: dict[str, float]) -> None:
    """Metrics of one iteration; step = iteration. finished: seconds since the epoch."""
    _log(run_id, iteration, finished, metrics)


@recorded
def log_table(run_id: str, name: str, rows: list[dict[str, Any]]) -> None:
    """A table of samples as an artifact of the run."""
    client = MlflowClient()
    if not rows or any(item.path == name for item in client.list_artifacts(run_id, name.rpartition("/")[0])):
        return
    client.log_table(run_id, {key: [row[key] for row in rows] for key in rows[0]}, name)


def registered_name(reasoner: FrozenModel, heldout: ProblemTable) -> str:
    """The registered model of policies that this reasoner judged on these problems."""
    return f"captioner-{digest([reasoner, heldout])[:8]}"


@recorded
def log_evaluation(
    run_id: str,
    iteration: int,
    finished: float,
    policy: Policy,
    reasoner: FrozenModel,
    heldout: ProblemTable,
    evaluation: EntryTable,
    score: Score,
    metrics: dict[str, float],
) -> None:
    """An evaluated policy: metrics, a logged model, a version of the registered model.

    Versions of one registered model were judged by the same reasoner on the same problems and are comparable. The best
    becomes champion when its run is finished (`close_run`).
    """
    client = MlflowClient()
    experiment_id = client.get_run(run_id).info.experiment_id
    tags = {
        "racro.policy": policy.files,
        "racro.policy_uri": policy.uri,
        "racro.evaluation": evaluation.digest,
        "racro.run_id": run_id,
        "racro.iteration": str(iteration),
        "racro.accuracy": f"{score.accuracy:.6f}",
        "racro.accuracy_stderr": f"{score.stderr:.6f}",
        "racro.n": str(score.n),
    }
    model_id = _logged_model(client, experiment_id, run_id, iteration, tags)
    _log(run_id, iteration, finished, metrics, model_id, heldout)
    _version(client, registered_name(reasoner, heldout), run_id, model_id, tags)


@recorded
def close_run(run_id: str, files: dict[str, str]) -> None:
    """Mark the run finished, and the best of its policies champion if none is better; files: name -> text, kept."""
    client = MlflowClient()
    for name, text in files.items():
        client.log_text(run_id, text, name)
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        _crown(client, version)
    client.set_terminated(run_id, "FINISHED")


@contextlib.contextmanager
def system_metrics(run_id: str) -> Iterator[None]:
    """CPU, memory, disk, network and GPU of this machine, while the context lasts."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    def start() -> SystemMetricsMonitor:
        monitor = SystemMetricsMonitor(run_id, sampling_interval=5, resume_logging=True)
        monitor.start()
        return monitor

    monitor = attempt("the machine's load in MLflow", start)
    try:
        yield
    finally:
        if monitor is not None:
            attempt("the machine's load in MLflow", monitor.finish)


def end_run(run_id: str, error: BaseException) -> None:
    """Mark a run that did not finish: failed, or killed by an interruption. The next attempt continues it."""
    status = "FAILED" if isinstance(error, Exception) else "KILLED"
    attempt("the end of a run in MLflow", lambda: MlflowClient().set_terminated(run_id, status))


def experiment_id(client: MlflowClient) -> str:
    """The experiment; created if missing, with artifacts beside a local sqlite store.

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


def _crown(client: MlflowClient, version: ModelVersion) -> None:
    """Move the alias to this version of a finished run, if it is the best so far."""
    try:
        best = client.get_model_version_by_alias(version.name, CHAMPION)
    except MlflowException:
        best = None
    if best is None or float(version.tags["racro.accuracy"]) > float(best.tags.get("racro.accuracy", "-1")):
        client.set_registered_model_alias(version.name, CHAMPION, version.version)


def _flat(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested configuration as dotted parameters."""
    for key, item in value.items():
        if isinstance(item, dict) and item:
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(item) if isinstance(item, list | dict) else str(item)
