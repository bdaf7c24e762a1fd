"""MLflow: one run per training, a logged model and a registered version per evaluated policy.

Everything here may run again (a retried task, a resumed run): metrics carry the time their stage finished, so the same
point is the same point; models and tables are looked up before they are made. Once a run is open, a store that is away
costs records, never the run (`recorded`); the same command records what is missing. Not here: what the numbers mean.
"""

from __future__ import annotations

import functools
import io
import json
import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.exceptions import MlflowException
from PIL import Image
from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run

from racro.config import Recipe
from racro.config.settings import leaves
from racro.data import statistics
from racro.identity import judging_digest
from racro.schema import EntryTable, Policy, ProblemTable
from racro.storage.retention import training_digests
from racro.summary import Score
from tasks.recording import events, registry, store
from tasks.recording.metric_names import named
from tasks.recording.registry import Judge, Move
from tasks.recording.store import EXPERIMENT
from tasks.recording.undisturbed import undisturbed
from tasks.running.locks import in_turn
from tasks.running.telemetry import attempt, lost

TRAINING = "racro.training"
"""Tag of a run: the checkpoints that it makes, or may need."""
JUDGING = "racro.judging"
"""Tag of a run: by what its policies are compared."""
PARENT = "RACRO_PARENT_RUN"
"""Environment variable with the MLflow run below which those of this process stand: a sweep's."""

KIND = "custom_model_development"
"""Of the experiment: MLflow's UI then opens it in its view of trainings, with runs and curves."""
NOTE = (
    "Trainings, evaluations, profiles and sweeps of racro. Metrics `heldout/*` measure policies on held-out problems, "
    "`reward/*` and `compose/*` what a training learns from, `update/*` the optimizer; step = iteration."
)
"""Description of the experiment."""
COLUMNS = ("question", "answer", "category", "images")
"""Of a table of problems, as far as people look for them."""

P = ParamSpec("P")
T = TypeVar("T")


def may_heal(task: Task[..., Any], run: TaskRun, state: State) -> bool:
    """Prefect's retry condition: the server was away, not the request wrong."""
    try:
        state.result()
    except MlflowException as error:
        return error.error_code in store.HEALING or store.MET in str(error)
    except (OSError, TimeoutError, RuntimeError):
        return True
    except Exception:  # a mistake, of the request or of ours: not tried again, and Prefect raises it
        return False
    return False


def logged(body: Callable[P, T]) -> Task[P, T]:
    """A task that a signal does not cut off in the middle, tried again for a minute: a server may be away."""
    patient = task(
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=5,
        retry_delay_seconds=[1, 2, 5, 15, 40],
        retry_condition_fn=may_heal,
    )
    return patient(undisturbed(body))


RECORD = "something in MLflow"
"""What the warning calls a record that is lost."""


def recorded(body: Callable[P, None], last: bool = False) -> Callable[P, None]:
    """A task that records something, tried again for a minute; then a warning, and the flow goes on without it.

    Once one was lost, each is attempted once only. last: see `attempt`.
    """
    patient = logged(body)
    brief = patient.with_options(retries=0)

    @functools.wraps(body)
    def record(*args: P.args, **kwargs: P.kwargs) -> None:
        attempt(RECORD, lambda: (brief if lost(RECORD) else patient)(*args, **kwargs), last)

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
    with in_turn("mlflow"):  # the same command may be starting beside this one
        found = client.search_runs([experiment], query, max_results=1)
        tags = {**identity, store.FLOW_RUN: flow_run.id or ""}
        made = found[0] if found else client.create_run(experiment, tags=tags, run_name=run)
    run_id = made.info.run_id
    if found:
        client.set_tag(run_id, store.FLOW_RUN, flow_run.id or "")
        client.update_run(run_id, status="RUNNING")
    else:
        client.log_batch(run_id, params=[Param(k, v[:500]) for k, v in leaves(recipe.model_dump(mode="json"))])
    client.set_tag(run_id, TRAINING, " ".join(training_digests(recipe)))
    client.set_tag(run_id, JUDGING, judging_digest(recipe))
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
    schema = json.dumps({"mlflow_colspec": [{"name": name, "type": "string", "required": True} for name in COLUMNS]})
    data = Dataset(f"problems-{context}", problems.digest[:32], "local", source, schema, profile)
    MlflowClient().log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", context)])])


@recorded
def log_iteration(run_id: str, iteration: int, finished: float, metrics: dict[str, float]) -> None:
    """Metrics of one iteration; step = iteration. finished: seconds since the epoch."""
    _log(run_id, iteration, finished, metrics)


@recorded
def tag(run_id: str, name: str, value: str) -> None:
    """Say something about a run."""
    MlflowClient().set_tag(run_id, name, value)


@recorded
def log_table(run_id: str, name: str, rows: list[dict[str, Any]]) -> None:
    """A table of samples as an artifact of the run."""
    client = MlflowClient()
    if not rows or any(item.path == name for item in client.list_artifacts(run_id, name.rpartition("/")[0])):
        return
    client.log_table(run_id, {key: [row[key] for row in rows] for key in rows[0]}, name)


@recorded
def log_evaluation(
    run_id: str,
    iteration: int,
    finished: float,
    policy: Policy,
    judge: Judge,
    reasoner: str,
    evaluation: EntryTable,
    score: Score,
    metrics: dict[str, float],
) -> None:
    """An evaluated policy: metrics, a logged model, a version of the registered model.

    The best version becomes champion when its run is finished (`close_run`). `reasoner`: its name in the recipe.
    """
    client = MlflowClient()
    run = client.get_run(run_id).info
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
    model_id = registry.logged_model(client, run.experiment_id, run_id, iteration, tags)
    _log(run_id, iteration, finished, metrics, model_id, judge.heldout)
    text = (
        f"Run {run.run_name}, after iteration {iteration} ({policy.step} optimizer steps): accuracy "
        f"{score.share.percent} % on {score.n:,} held-out problems."
    )
    name = registry.model_for(client, judge, reasoner)
    registry.register(client, name, run_id, model_id, tags, text)


@recorded
def log_files(run_id: str, texts: dict[str, str], pictures: dict[str, bytes] | None = None) -> None:
    """Files of a run by their names, in place of those that are there."""
    client = MlflowClient()
    for name, text in texts.items():
        client.log_text(run_id, text, name)
    for name, data in (pictures or {}).items():
        client.log_image(run_id, Image.open(io.BytesIO(data)), artifact_file=name)


@recorded
def link_prompts(run_id: str, recipe: Recipe) -> None:
    """The prompts of a recipe in the prompt registry, and in the run."""
    with in_turn("mlflow"):  # two that registered one at once would fail
        registry.link_prompts(MlflowClient(), run_id, recipe)


def champion_moves(run_id: str) -> list[Move]:
    """What `close_run` would change."""
    found = undisturbed(lambda: list(registry.moves(MlflowClient(), run_id)))
    return attempt("a champion in MLflow", found) or []


@functools.partial(recorded, last=True)
def close_run(run_id: str, files: dict[str, str], crown: bool = True) -> None:
    """Mark the run finished, and the best of its policies champion if none is better; files: name -> text, kept."""
    client = MlflowClient()
    for name, text in files.items():
        client.log_text(run_id, text, name)
    for move in registry.moves(client, run_id) if crown else ():
        registry.crown(client, move)
        run, tags = client.get_run(run_id).info.run_name, move.version.tags
        figures = {"model": move.version.name, "version": str(move.version.version), "policy": tags["racro.policy_uri"]}
        events.emit(events.CHAMPION, run, f"The champion has changed: {move.line}.", figures)
    client.set_terminated(run_id, "FINISHED")


def end_run(run_id: str, error: BaseException) -> None:
    """Mark a run that did not finish: failed, or killed by an interruption. The next attempt continues it."""
    status = "FAILED" if isinstance(error, Exception) else "KILLED"
    attempt("the end of a run in MLflow", undisturbed(lambda: MlflowClient().set_terminated(run_id, status)), True)


@undisturbed
def stop_run(run_id: str, why: str) -> None:
    """Mark a run that was ended on purpose, with the reason."""
    client = MlflowClient()
    client.set_terminated(run_id, "KILLED")
    client.set_tag(run_id, "racro.stopped", why)


def experiment_id(client: MlflowClient) -> str:
    """The experiment; created if missing, with artifacts beside a local sqlite store.

    MLflow's default would be the working directory.
    """
    if experiment := client.get_experiment_by_name(EXPERIMENT):
        identity = str(experiment.experiment_id)
        if "mlflow.experimentKind" not in experiment.tags:  # made by an earlier version; a person's choice stays
            client.set_experiment_tag(identity, "mlflow.experimentKind", KIND)
        return identity
    uri = mlflow.get_tracking_uri()
    local = uri.removeprefix("sqlite:///")
    place = f"{local.rpartition('/')[0]}/artifacts" if local != uri else None
    try:
        tags = {"mlflow.experimentKind": KIND, "mlflow.note.content": NOTE}
        return str(client.create_experiment(EXPERIMENT, artifact_location=place, tags=tags))
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
    points = [Metric(k, v, int(finished * 1000), step, model_id=model_id, **tie) for k, v in named(metrics).items()]
    MlflowClient().log_batch(run_id, metrics=points)
