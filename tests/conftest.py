"""One home, one Prefect server and one MLflow store for the whole test session; nothing outside a temporary folder."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from racro.engines.local.transformers import TransformersEngine
    from tests.support.workplace import Workplace

HOME = Path(tempfile.mkdtemp(prefix="racro-tests-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

# Before anything imports prefect, mlflow or transformers: their settings are read once.
for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "PREFECT_HOME"):
    os.environ.pop(name, None)
os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "ERROR"
os.environ["HF_HUB_OFFLINE"] = "1"

from flows.station import local  # noqa: E402
from racro.processes.child import free_port  # noqa: E402

local.settle(HOME)

PREFECT_PORT = free_port()
# Prefect reads this once, when test modules import it, and would start a server of its own where nothing is set.
os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{PREFECT_PORT}/api"

REPOSITORY = Path(__file__).parent.parent
EMBEDDED_RECIPE = str(REPOSITORY / "racro" / "recipes" / "embedded.yaml")

TINY = (
    "iterations=2",
    "problems.count=64",
    "rollout.problems=8",
    "rollout.group_size=4",
    "update.mini_batch=4",
    "evaluation.problems=32",
    "evaluation.every=2",
    "runtime.retries=1",
    "runtime.retry_delay=0",
)
"""Overrides that make the embedded recipe a matter of seconds."""


def pytest_collection_finish() -> None:
    """Test modules are imported; commands that tests start know of no server."""
    os.environ.pop("PREFECT_API_URL", None)


@pytest.fixture(scope="session")
def plain_captioner() -> TransformersEngine:
    """The embedded captioner on the engine that all others are held against."""
    from racro.engines.local.transformers import TransformersEngine
    from racro.models.folders import EMBEDDED

    return TransformersEngine.captioner(str(EMBEDDED / "captioner"), "float32", "cpu", batch=32)


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """API URL of a real Prefect server, in PREFECT_API_URL while the session lasts."""
    with local.prefect_server(HOME, PREFECT_PORT) as url:
        yield url


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """A folder in which `racro up` runs, with two workers on a GPU each; one for all tests that do it no harm.

    It has packages with the names of ours in it, as a user's folder may: servers, workers and runs must not take them.
    """
    from tests.support.hostile import fill
    from tests.support.workplace import opened

    options = ("--workers", "2", "--gpus", "3,4", "--silence", "60")
    folder = tmp_path_factory.mktemp("station")
    fill(folder)
    yield from opened(folder, *options)


def nobody_works_in(folder: Path) -> bool:
    """Does no process work in `folder` any more? Waits a little: servers shut down in order."""
    for _ in range(200):
        if not any(_cwd(process) == str(folder) for process in Path("/proc").glob("[0-9]*")):
            return True
        time.sleep(0.1)
    return False


def _cwd(process: Path) -> str:
    try:
        return os.readlink(process / "cwd")
    except OSError:  # it has just ended, or is not ours to look at
        return ""
