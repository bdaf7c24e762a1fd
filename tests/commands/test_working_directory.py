"""A user's own `flows`, `tasks`, `infra` or `racro` in the working directory does no harm."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows.station.workplace import PACKAGES
from racro.config import Captioner, EnginePlacement
from racro.config import Server as ServerConfig
from racro.engines.vllm.server import command
from racro.processes.child import Child
from tests.commands.test_cli import SETS, environment
from tests.support.hostile import fill

SCRIPTED = [
    *("--set", "captioner.engine={type: scripted, rules: [{replies: [bars]}]}"),
    *("--set", "reasoner.engine={type: scripted, rules: [{replies: [unknown]}]}"),
    *("--set", "iterations=1"),
]


def racro(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, as its console script starts it: without the working directory on the path."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "flows.cli.main", *arguments],
        cwd=folder / "work",
        env={name: value for name, value in environment(folder).items() if name != "PYTHONSAFEPATH"},
        capture_output=True,
        text=True,
        timeout=550,
    )


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    fill(tmp_path / "work")
    return tmp_path


def test_a_sweep_with_its_servers_and_children_runs_there(hostile: Path) -> None:
    """The command, Prefect's server, the children of the sweep and the stages in them."""
    arguments = [*SETS, *SCRIPTED, "--axis", "update.learning_rate=1e-4", "--run", "one"]
    done = racro(hostile, "sweep", "embedded", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (hostile / "work" / "runs" / "one" / "summary.json").is_file()


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
