"""A user's own `flows`, `tasks`, `infra` or `racro` in the working directory does no harm.

Whole runs in such a folder: a sweep in tests/pipelines/test_sweep.py, servers and workers in tests/station.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

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
