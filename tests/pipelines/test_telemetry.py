"""No telemetry ends a stage or a run: Prefect's server goes away in mid-stage, MLflow's store is unusable later on."""

from __future__ import annotations

import logging
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from prefect import Task, flow, task_engine
from prefect.client.schemas.objects import TaskRun
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.training import train
from racro.config import Runtime, loading
from racro.schema import Parity
from tasks.recording import store, track
from tasks.running import progress, telemetry
from tasks.running.policies import Output, stage
from tasks.running.progress import Progress
from tasks.running.stages import Stages
from tests.conftest import EMBEDDED_RECIPE, REPOSITORY, TINY
from tests.support.gateway import gateway


@pytest.fixture(autouse=True)
def unwarned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_warned", set())
    monkeypatch.setattr(telemetry, "_lost", {})


def test_prefects_artifacts_are_made_in_one_place() -> None:
    importing = re.compile(r"prefect\.artifacts|from prefect import .*\bartifacts\b|create_\w+_artifact")
    found = [
        str(file.relative_to(REPOSITORY))
        for package in ("tasks", "flows", "racro")
        for file in (REPOSITORY / package).rglob("*.py")
        if importing.search(file.read_text())
    ]
    assert found == ["tasks/running/telemetry.py"]


def test_a_stage_goes_on_when_prefects_server_is_away(
    prefect_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "ARTIFACT_AFTER", 0.0)
    monkeypatch.setattr(progress, "LOG_EVERY", 0.0)

    @stage("parity", version=99)
    def body(output: Output, runtime: Runtime, root: str) -> Parity:
        away.close()
        shown = Progress("looking", "items")
        for done in range(3):
            time.sleep(0.01)
            shown(done, 3)
        shown.finish()
        telemetry.markdown("page", "text", "A page")
        telemetry.table("rows", [{"a": 1}], "Rows")
        away.open()
        return Parity(uri=output.folder, rows=3, digest="d")

    @flow(persist_result=False)
    def one() -> Parity:
        return Stages(str(tmp_path), Runtime(retries=0)).run(body, "look", Parity)

    url = httpx.URL(prefect_server)
    assert url.port is not None
    with (
        gateway(url.port) as away,
        temporary_settings({PREFECT_API_URL: str(url.copy_with(port=away.port)), PREFECT_CLIENT_MAX_RETRIES: 0}),
        caplog.at_level(logging.WARNING, logger="prefect.racro.telemetry"),
    ):
        assert one().rows == 3
    warned = [record.getMessage() for record in caplog.records if record.name == "prefect.racro.telemetry"]
    assert len(warned) == 2, "once for progress, once for artifacts"
    assert all("is not recorded" in line and "the run goes on" in line for line in warned)


@pytest.mark.usefixtures("prefect_server")
def test_what_cannot_be_recorded_in_mlflow_costs_no_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []

    @track.recorded
    def record(text: str) -> None:
        tried.append(text)
        raise ValueError("no such run")  # nothing that heals

    @flow(persist_result=False)
    def two() -> str:
        record("a")
        record("b")
        return "done"

    with caplog.at_level(logging.WARNING, logger="prefect.racro.telemetry"):
        assert two() == "done"
    assert tried == ["a", "b"]
    warned = [r.getMessage() for r in caplog.records if r.name == "prefect.racro.telemetry"]
    assert warned == ["something in MLflow is not recorded (ValueError: no such run); the run goes on"]


@pytest.mark.usefixtures("prefect_server")
def test_a_server_that_hangs_does_not_take_the_time_of_every_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "SLOW", 0.0)  # whatever a lost record took was long
    tried = []

    def send(text: str) -> None:
        tried.append(text)
        if "lost" in text:
            raise ValueError("no answer")

    record, end = track.recorded(send), track.recorded(send, last=True)

    @flow(persist_result=False)
    def several() -> None:
        record("lost")
        record("left out")
        end("lost end")  # nothing comes after it
        telemetry._lost[track.RECORD] -= telemetry.REST
        record("after a rest")
        record("as always")

    several()
    assert tried == ["lost", "lost end", "after a rest", "as always"]


@pytest.mark.usefixtures("prefect_server")
def test_a_signal_in_the_moment_before_a_task_begins_is_no_failure_of_that_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There Prefect raises an error of its own in the signal's place, which a record's failure would look like."""
    recipe = loading.load(EMBEDDED_RECIPE, TINY)
    create = task_engine._create_task_run_locally
    for name in ("link_prompts", "caption"):

        def interrupted(task: Task[..., Any], *args: Any, name: str = name, **others: Any) -> TaskRun:
            if task.name == name:
                raise KeyboardInterrupt
            return create(task, *args, **others)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(task_engine, "_create_task_run_locally", interrupted)
            train(recipe, run="interrupted", root=str(tmp_path))
        [run] = MlflowClient().search_runs(["1"], f"tags.`racro.root` = '{tmp_path}'")
        assert run.info.status == "KILLED", name
    train(recipe, run="interrupted", root=str(tmp_path))


def test_mlflows_own_client_does_not_insist_for_minutes() -> None:
    """Records are tried again by us; MLflow's client would do it eight times inside each try, for four minutes."""
    asked = []

    class Failing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store.client()
        with pytest.raises(MlflowException):
            MlflowClient(f"http://127.0.0.1:{server.server_port}").set_tag("run", "key", "value")
        server.shutdown()
    assert len(asked) == 3
