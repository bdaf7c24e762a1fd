"""What all tests share: a temporary home, one Prefect server and one MLflow store per test process.

Each folder answers one question, and a test belongs where its cost is known:

- unit: does one module do what it says? No server, no child process except where a process is the module's subject.
  `make quick` runs this folder and the linters.
- training: do updates of real models do what they promise, whatever the family, the budget and the adapter?
- engines: do real engine processes (workers, vLLM) answer as the model does, and leave nothing behind?
- commands: does the command line say and exit with what people and scripts expect?
- station: do the servers and workers of `racro up` work, on sqlite and files, on Postgres and S3?
- pipelines: do whole flows do what they promise, with real models or scripted ones?
- faults: does a run survive kills, full disks and storage that fails?
- docs: do the commands, code blocks and links of README and docs work, and are the files under infra valid?
- support: what tests share and pytest does not collect. bench: measurements, run by hand.

With several processes (`make test`), the tests of a file stay in one process, files that share a server form a group,
and the groups that take longest begin first.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from racro.engines.local.transformers import TransformersEngine

gc.disable()  # until all test modules are imported: `pytest_collection_finish`

HOME = Path(tempfile.mkdtemp(prefix="racro-tests-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

# Before anything imports prefect, mlflow or transformers: their settings are read once.
for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "PREFECT_HOME"):
    os.environ.pop(name, None)
os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "ERROR"
os.environ["HF_HUB_OFFLINE"] = "1"
# On a busy machine the threads of one operation wait for each other, for many times its length.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# vLLM looks at a model's class in a process of its own, for fifteen seconds, and remembers what it found.
os.environ.setdefault("VLLM_CACHE_ROOT", str(HOME / "vllm"))
# Hundreds of processes import our modules; without bytecode each would compile them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

from flows.station import local  # noqa: E402
from tests.support import forkserver  # noqa: E402
from tests.support.aloud import Aloud  # noqa: E402
from tests.support.ports import reserve  # noqa: E402

os.environ.setdefault(forkserver.SHARED, str(HOME))  # the first process's, whose children take its environment
os.environ.setdefault(forkserver.OWNER, str(os.getpid()))

local.settle(HOME)

PREFECT_PORT = reserve()
# Prefect reads this once, when test modules import it, and starts its own server where nothing is set.
os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{PREFECT_PORT}/api"

# The same examples in every run, so that a failure can be repeated. `--hypothesis-profile=explore` draws new ones, and
# `--hypothesis-profile=quick` a fifth (`tests/support/examples.py`).
hypothesis.settings.register_profile("ci", derandomize=True, print_blob=True, deadline=None, database=None)
hypothesis.settings.register_profile("quick", hypothesis.settings.get_profile("ci"), max_examples=20)
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.load_profile("ci")

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
    "runtime.renewal=0",
)
"""Overrides that make the embedded recipe a matter of seconds."""

GROUPS = {
    "tests/station/test_people.py": "tests/station/test_station.py",
    "tests/station/test_queues.py": "tests/station/test_station.py",
    "tests/cluster/test_actors.py": "tests/cluster/test_training.py",
    "tests/cluster/test_evaluating.py": "tests/cluster/test_training.py",
}
"""File -> the file whose group it joins, because they use the same `racro up`, or the same cluster."""

LONGEST = (
    "tests/cluster/test_training.py",
    "tests/cluster/test_namespaces.py",
    "tests/docs/test_first_hour.py",
    "tests/faults/test_resume.py",
    "tests/commands/test_serve_command.py",
    "tests/commands/test_serve_page.py",
    "tests/station/test_station_postgres.py",
    "tests/station/test_station.py",
    "tests/pipelines/test_stages.py",
    "tests/pipelines/test_sampling.py",
    "tests/docs/test_commands.py",
    "tests/pipelines/test_bad_input.py",
    "tests/faults/test_storage_faults.py",
    "tests/engines/test_serving.py",
    "tests/commands/test_wheel.py",
    "tests/pipelines/test_sweep.py",
    "tests/pipelines/test_retention.py",
    "tests/commands/test_cli.py",
    "tests/engines/test_smollm2.py",
    "tests/training/test_rising.py",
    "tests/pipelines/test_engine_processes.py",
    "tests/engines/test_families.py",
    "tests/commands/test_answer_command.py",
    "tests/pipelines/test_overlap.py",
    "tests/commands/test_interruption.py",
    "tests/commands/test_image.py",
    "tests/pipelines/test_lora.py",
    "tests/docs/test_notebooks.py",
    "tests/station/test_s3.py",
    "tests/commands/test_export.py",
    "tests/pipelines/test_evaluate.py",
    "tests/engines/test_vllm.py",
    "tests/pipelines/test_judges.py",
    "tests/pipelines/test_vllm_training.py",
    "tests/unit/test_suite.py",
    "tests/unit/reports/test_report.py",
    "tests/unit/engines/test_client.py",
    "tests/unit/grading/test_grading_symbolic.py",
    "tests/unit/rewards/test_estimators.py",
    "tests/unit/storage/test_leases.py",
    "tests/unit/models/test_colocation.py",
    "tests/unit/test_architecture.py",
    "tests/unit/grading/test_verdicts.py",
    "tests/unit/grading/test_grading_characters.py",
    "tests/unit/storage/test_artifacts.py",
    "tests/unit/answering/test_pipeline.py",
    "tests/unit/training/test_losses.py",
)
"""Groups that take longest, also of unit tests. They begin first, so that no process waits for another at the end."""


def group(nodeid: str) -> str:
    """What stays in one process: the test's file, or the file whose server it uses."""
    file = nodeid.partition("::")[0]
    return GROUPS.get(file, file)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Failures are said at once, by the process that others report to. At `pytest_configure` it has no terminal yet."""
    config = session.config
    if (terminal := config.pluginmanager.get_plugin("terminalreporter")) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Aloud(terminal))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the groups that take longest first."""
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(group(item.nodeid), len(order)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests of a group run in one process."""
    from tests.support.scheduling import ByGroup

    return ByGroup(config, log, group)


def pytest_xdist_setupnodes(specs: Sequence[Any]) -> None:
    """Processes that run tests are forked from one that has imported the libraries."""
    for spec in specs:
        spec.python = str(forkserver.shared().tester)


def pytest_collection_finish() -> None:
    """Test modules are imported; commands that tests start know of no server."""
    os.environ.pop("PREFECT_API_URL", None)
    gc.enable()
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)


@pytest.fixture(scope="session")
def plain_captioner() -> TransformersEngine:
    """The embedded captioner on the engine that all others are held against."""
    from racro.engines.local.transformers import TransformersEngine
    from racro.models.folders import EMBEDDED

    return TransformersEngine.captioner(str(EMBEDDED / "captioner"), "float32", "cpu", batch=32)


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """API URL of a real Prefect server, in PREFECT_API_URL while the session lasts."""
    with contextlib.ExitStack() as stack:
        with forkserver.children() if "PYTEST_XDIST_WORKER" in os.environ else contextlib.nullcontext():
            url = stack.enter_context(local.prefect_server(HOME, PREFECT_PORT))
        yield url


@pytest.fixture
def forked() -> Iterator[None]:
    """Processes that the test starts are forked from one that has imported the libraries (`forkserver`)."""
    with forkserver.children():
        yield


@pytest.fixture
def forked_engines() -> Iterator[None]:
    """Those of engines too."""
    with forkserver.children(engines=True):
        yield


def nobody_works_in(folder: Path, deadline: float = 60) -> bool:
    """Does no process work in `folder` any more? Waits for servers that are shutting down."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        if not any(_cwd(process) == str(folder) for process in Path("/proc").glob("[0-9]*")):
            return True
        time.sleep(0.1)
    return False


def _cwd(process: Path) -> str:
    try:
        return os.readlink(process / "cwd")
    except OSError:  # it has just ended, or may not be looked at
        return ""
