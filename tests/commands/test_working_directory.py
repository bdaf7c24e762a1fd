"""A user's own `flows`, `tasks`, `infra` or `racro` in the working directory does no harm.

Whole runs in such a folder: a sweep in tests/pipelines/test_sweep.py, servers and workers in tests/station.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect import get_client

from flows.station.registration import deployments, register_deployments, register_pool
from flows.station.service_manager import POOL
from flows.station.workplace import PACKAGES
from racro.config import Captioner, EnginePlacement
from racro.config import Server as ServerConfig
from racro.engines.vllm.server import command
from racro.processes.child import Child
from tests.support.hostile import fill


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    fill(tmp_path / "work")
    return tmp_path


def test_children_and_what_they_start_find_ours(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hostile / "work")
    program = (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'import racro.schema, tasks.running, flows.station'], check=True)"
    )
    child = Child([sys.executable, "-c", program], log=hostile / "log")
    try:
        assert child.wait(60) == 0, child.last_words()
    finally:
        child.stop(0)


def test_what_prefect_imports_from_the_working_directory_is_ours_already() -> None:
    assert {package.__name__ for package in PACKAGES} == {"flows", "tasks", "racro"}


def test_a_vllm_server_imports_nothing_from_the_working_directory() -> None:
    config = Captioner(engine=ServerConfig())
    started = command("captioner", config, "/model", EnginePlacement(), True, "name", 1, None)
    assert started[1] == "-P"


@pytest.mark.parametrize("deployment", deployments()["deployments"], ids=lambda deployment: str(deployment["name"]))
def test_every_deployment_says_that_runs_take_nothing_from_the_working_directory(deployment: dict[str, Any]) -> None:
    assert deployment["work_pool"]["job_variables"] == {"env": {"PYTHONSAFEPATH": "1"}}


@pytest.mark.usefixtures("prefect_server")
def test_a_worker_started_by_hand_in_such_a_folder_runs_ours(hostile: Path) -> None:
    given = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    with get_client(sync_client=True) as client:
        register_pool(client, POOL)
        register_deployments(client, str(hostile / "root"))
        prune = client.read_deployment_by_name("prune/prune")
        run = client.create_flow_run_from_deployment(prune.id)
        command = [str(Path(sys.executable).with_name("prefect")), "worker", "start", "--pool", POOL, "--run-once"]
        command += ["--type", "process", "--install-policy", "never"]
        environment = {**given, "RACRO_WORKPLACE": str(hostile / "work")}
        log = hostile / "log"
        with log.open("w") as stream:
            subprocess.run(command, cwd=hostile / "work", env=environment, stdout=stream, stderr=stream, timeout=200)
        state = client.read_flow_run(run.id).state
    assert state is not None and state.is_completed(), log.read_text()
