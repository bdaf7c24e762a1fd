"""Children of a sweep: their processes, their outcomes on disk, the sweep's MLflow run, its page and Prefect artifacts.

Not here: what is tried (`racro.sweeps.axes`), who wins (`racro.sweeps.ranking`), the order (`flows.sweep`). The upper
half runs in the sweep's process, `Attempt` in the child's.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from uuid import UUID

from mlflow import MlflowClient
from prefect import runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Crashed, Failed
from pydantic import ValidationError

from racro.config import Recipe, loading
from racro.home import home
from racro.processes import gpus
from racro.processes.child import Child as Process
from racro.reports import sweep as sweep_report
from racro.storage import artifacts, layout
from racro.summary import Score, StageTotal, Summary
from racro.sweeps.ranking import Child, Measured, Outcome, SweepSummary, hopeless
from tasks.recording import store, track
from tasks.recording.track import logged, recorded
from tasks.running import telemetry

STOP_DEADLINE = 15.0
"""Seconds that a child has for closing its runs when the sweep is interrupted."""
WAIT = 3600.0
"""Seconds of one wait for a child; it is waited for again."""


# --- outcomes ---------------------------------------------------------------------------------------------------------


def outcome(root: str, sweep: str, child: str, recipe_digest: str) -> Outcome | None:
    """What is known of a child that runs, or ran, this very recipe. Raises BadArtifact."""
    uri = layout.child(root, sweep, child)
    try:
        known = Outcome.model_validate_json(artifacts.read_file(uri))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise artifacts.BadArtifact(f"{uri} is no outcome of this version; delete it and run again") from error
    return known if known.recipe_digest == recipe_digest else None


def ended(child: Child, recipe_digest: str) -> Outcome | None:
    """Outcome of a child that needs no run: finished, diverged, or stopped by a rule that still holds."""
    known = outcome(child.root, child.sweep, child.name, recipe_digest)
    final = ("finished", "diverged", *(("stopped",) if child.stop_hopeless else ()))
    return known if known and known.status in final else None


def _write(child: Child, what: Outcome) -> None:
    artifacts.write_file(layout.child(child.root, child.sweep, child.name), artifacts.to_json(what).encode())


# --- processes --------------------------------------------------------------------------------------------------------


class Children:
    """Processes of children. At the end of the context none of them runs, and none is started any more.

    parallel: how many may run at once. The GPUs in CUDA_VISIBLE_DEVICES are dealt out among so many, where there are
    enough; else all of them see the same.
    """

    def __init__(self, parallel: int) -> None:
        self.closed = False
        self._shares: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        for share in gpu_shares(parallel):
            self._shares.put(share)
        self._running: set[Process] = set()
        self._guard = threading.Lock()

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._guard:
            self.closed = True
            running = list(self._running)
        with ThreadPoolExecutor(max(1, len(running))) as pool:
            list(pool.map(lambda process: process.stop(STOP_DEADLINE), running))

    def run(self, command: Sequence[str], env: dict[str, str], log: Path) -> int | None:
        """Run a command to its end; its exit status, None when the context ended before."""
        share = self._shares.get()
        with self._guard:
            if self.closed:
                return None
            process = Process(command, env=env | share, log=log)
            self._running.add(process)
        try:
            while (status := process.wait(WAIT)) is None:
                pass
            return None if self.closed else status
        finally:
            process.stop(0)
            self._shares.put(share)
            with self._guard:
                self._running.discard(process)


def gpu_shares(parallel: int) -> list[dict[str, str]]:
    """What each of so many processes gets of CUDA_VISIBLE_DEVICES."""
    parts = gpus.shares(os.environ.get("CUDA_VISIBLE_DEVICES", ""), parallel)
    return [{"CUDA_VISIBLE_DEVICES": part} if part else {} for part in parts]


@task(name="child", task_run_name="{child.name}", cache_policy=NO_CACHE, persist_result=False)
def run_child(child: Child, recipe_digest: str, command: Sequence[str], mlflow_run: str, children: Children) -> State:
    """Run a child; the state says how it ended, and why where it did not finish. A failure raises nothing."""
    log = home() / "sweeps" / f"{child.name}.log"
    _write(child, Outcome(child=child.name, recipe_digest=recipe_digest, status="running"))
    status = children.run([*command, child.model_dump_json()], {track.PARENT: mlflow_run}, log)
    if status is None:
        return Crashed(message="the sweep was interrupted")
    known = outcome(child.root, child.sweep, child.name, recipe_digest)
    if known is None or known.status == "running":  # it could not say what became of it
        how = f"signal {-status}" if status < 0 else f"status {status}"
        known = Outcome(
            child=child.name,
            recipe_digest=recipe_digest,
            status="failed",
            curve=known.curve if known else (),
            note=f"its process ended with {how}; log: {log}",
            mlflow_run_id=known.mlflow_run_id if known else "",
        )
        _write(child, known)
        if known.mlflow_run_id:
            track.end_run(known.mlflow_run_id, RuntimeError(known.note))
    if known.status == "failed":
        return Failed(message=known.note)
    return Completed(name=known.status.capitalize(), message=known.note or None)


# --- in the child's process -------------------------------------------------------------------------------------------


class Hopeless(Exception):
    """The rule of `racro.sweeps.ranking` ends this training."""


class Attempt:
    """A child's own account: its curve while it trains, and how it ended."""

    def __init__(self, child: Child, recipe_digest: str) -> None:
        self.child, self.recipe_digest = child, recipe_digest
        self.started = time.monotonic()
        self.curve: list[Measured] = []
        self.mlflow_run = self.flow_run = ""

    def watch(self, mlflow_run: str, iteration: int, score: Score) -> None:
        """After an evaluation. Raises Hopeless."""
        self.mlflow_run, self.flow_run = mlflow_run, str(runtime.flow_run.id)
        now = Measured(iteration=iteration, accuracy=score.accuracy, stderr=score.stderr, n=score.n)
        self.curve.append(now)
        self._account("running")
        if self.child.stop_hopeless and 0 < iteration < self.child.recipe.rounds:
            found = (outcome(self.child.root, self.child.sweep, *sibling) for sibling in self.child.siblings.items())
            if why := hopeless(now, [sibling for sibling in found if sibling]):
                raise Hopeless(why)

    def finished(self, summary: Summary) -> None:
        """It is trained."""
        self._account("finished", stages=summary.stages)

    def stopped(self, why: str) -> None:
        """The rule ended it: no failure, in no view of it."""
        self._account("stopped", why)
        track.stop_run(self.mlflow_run, why)
        with get_client(sync_client=True) as prefect:
            prefect.set_flow_run_state(UUID(self.flow_run), Cancelled(message=why), force=True)

    def diverged(self, error: Exception) -> None:
        """Its numbers were no longer finite; the same sweep does not try again."""
        self._account("diverged", " ".join(str(error).split()))

    def failed(self, error: Exception) -> None:
        """It raised; the same sweep tries again."""
        self._account("failed", " ".join(f"{type(error).__name__}: {error}".split()))

    def _account(self, status: str, note: str = "", stages: dict[str, StageTotal] | None = None) -> None:
        what = Outcome(
            child=self.child.name,
            recipe_digest=self.recipe_digest,
            status=status,  # type: ignore[arg-type]
            curve=tuple(self.curve),
            seconds=round(time.monotonic() - self.started, 3),
            note=note,
            mlflow_run_id=self.mlflow_run,
            stages=stages or {},
        )
        _write(self.child, what)


# --- what people look at ----------------------------------------------------------------------------------------------


@logged
def open_sweep(run: str, root: str, axes: Sequence[str]) -> str:
    """The MLflow run that the children's runs are nested in: this sweep's from before, or a new one. Returns its id.

    Raises NoStore.
    """
    client = store.client()
    experiment = track.experiment_id(client)
    identity = {"racro.kind": "sweep", "racro.run": run, "racro.root": root}
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in identity.items())
    found = client.search_runs([experiment], query, max_results=1)
    run_id: str = found[0].info.run_id if found else client.create_run(experiment, run_name=run).info.run_id
    client.update_run(run_id, status="RUNNING")
    tags = identity | {"racro.axes": " ".join(axes), store.FLOW_RUN: runtime.flow_run.id or ""}
    for key, value in tags.items():
        client.set_tag(run_id, key, value)
    if url := runtime.flow_run.ui_url:
        client.set_tag(run_id, "prefect.flow_run_url", url)
    return run_id


@task(cache_policy=NO_CACHE, persist_result=False)
def publish(recipe: Recipe, summary: SweepSummary, root: str) -> None:
    """Write the sweep's folder, its MLflow run and its Prefect artifact. summary.json comes last."""
    page = sweep_report.render(summary)
    settings = loading.dump(recipe)
    text = artifacts.to_json(summary)
    artifacts.write_file(layout.recipe(root, summary.run), settings.encode())
    artifacts.write_file(layout.report(root, summary.run), page.encode())
    artifacts.write_file(layout.summary(root, summary.run), text.encode())
    close_sweep(summary, {"recipe.yaml": settings, "report.html": page, "summary.json": text})
    telemetry.table("sweep-ranking", ranking_rows(summary), f"Ranking of {summary.run}")


@recorded
def close_sweep(summary: SweepSummary, files: dict[str, str]) -> None:
    """Ranking, files and the best accuracy to MLflow; the run is finished."""
    client, run_id = MlflowClient(), summary.mlflow_run_id
    rows = ranking_rows(summary)
    table = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
    # Not client.log_table: it appends to a table that is there, and a sweep that goes on has another ranking.
    client.log_text(run_id, json.dumps(table), "ranking.json")
    client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps([{"path": "ranking.json", "type": "table"}]))
    for name, text in files.items():
        client.log_text(run_id, text, name)
    best = summary.ranking[0]
    if best.accuracy is not None:
        client.log_metric(run_id, "sweep/best_accuracy", best.accuracy)
    client.set_terminated(run_id, "FINISHED")


def ranking_rows(summary: SweepSummary) -> list[dict[str, object]]:
    """The ranking as a table of plain values."""
    return [
        {
            "rank": s.rank,
            **s.values,
            "accuracy": s.accuracy,
            "stderr": s.stderr,
            "seeds": s.seeds,
            "n": s.n,
            "stopped": s.stopped,
            "diverged": s.diverged,
            "failed": s.failed,
            "seconds": s.seconds,
        }
        for s in summary.ranking
    ]
