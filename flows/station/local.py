"""This machine: where local state lives, and a Prefect server for one command.

All state stays under `.racro/` in the working directory; PREFECT_API_URL and MLFLOW_TRACKING_URI are respected when
set. `settle` must run before prefect, mlflow or transformers are imported, so this module imports none of them.
Called by `flows.cli.main` only; a worker or a deployment brings its own environment.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from flows.station import servers

HOME = Path(".racro")

QUIET = {
    # nothing about a run leaves the machine
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "TOKENIZERS_PARALLELISM": "false",  # forked children would warn
    # OpenMP threads that spin while they wait take the CPU from the server and from each other: three times slower
    # on two shared cores
    "OMP_WAIT_POLICY": "PASSIVE",
    # load bars would break ours
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}

SERVICES_OFF = (
    "SCHEDULER",
    "LATE_RUNS",
    "FOREMAN",
    "CANCELLATION_CLEANUP",
    "PAUSE_EXPIRATIONS",
    "TRIGGERS",
    "REPOSSESSOR",
)
"""Server services that a single foreground run has no use for, and that would cost it CPU."""


class ServerFailed(RuntimeError):
    """The local server did not come up; the message says where its log is."""


def settle(home: Path = HOME) -> Path:
    """Point every library's state under `home`, unless the environment says otherwise. Returns the absolute home.

    Where a station runs (`racro up`), its servers are used.
    """
    home = home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    (home / ".gitignore").write_text("*\n")
    defaults = QUIET | {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(home / "prefect" / "storage"),  # does not follow PREFECT_HOME
        "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow' / 'mlflow.db'}",
        "RACRO_HOME": str(home),
        "MPLCONFIGDIR": str(home / "matplotlib"),
        "TORCHINDUCTOR_CACHE_DIR": str(home / "torchinductor"),
        "HF_DATASETS_CACHE": str(home / "datasets"),
    }
    defaults |= servers.addresses(home)
    if "MLFLOW_TRACKING_URI" not in os.environ:
        (home / "mlflow").mkdir(exist_ok=True)
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    return home


@contextlib.contextmanager
def prefect_server(home: Path, port: int | None = None, deadline: float = 120.0) -> Iterator[str]:
    """A Prefect server on loopback for as long as the context lasts; yields its API URL.

    Its database is `home`/prefect/prefect.db, so every run of this working directory shows in one UI. The server ends
    with this process, however that ends. With PREFECT_API_URL set nothing is started. Raises ServerFailed.
    """
    if configured := os.environ.get("PREFECT_API_URL"):
        yield configured
        return
    from racro.processes.child import free_port

    port = port or free_port()
    log = home / "prefect" / "server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in SERVICES_OFF}
    environment |= {
        "PREFECT_UI_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "flows.station.prefect_server", "127.0.0.1", str(port)]
    with log.open("ab") as stream:
        server = subprocess.Popen(
            command, env=environment, stdout=stream, stderr=stream, start_new_session=True, preexec_fn=_die_with_parent
        )
    url = f"http://127.0.0.1:{port}/api"
    try:
        _wait_healthy(f"{url}/health", server, log, deadline)
        os.environ["PREFECT_API_URL"] = url
        yield url
    finally:
        _drain()
        os.environ.pop("PREFECT_API_URL", None)
        _stop(server)


@contextlib.contextmanager
def mlflow_ui(port: int) -> Iterator[str]:
    """The MLflow UI on the local tracking store; yields its URL."""
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", os.environ["MLFLOW_TRACKING_URI"]]
    log = Path(os.environ["RACRO_HOME"]) / "mlflow" / "ui.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        server = subprocess.Popen(
            command, stdout=stream, stderr=stream, start_new_session=True, preexec_fn=_die_with_parent
        )
    try:
        _wait_healthy(f"http://127.0.0.1:{port}/health", server, log, 120.0)
        yield f"http://127.0.0.1:{port}"
    finally:
        _stop(server)


def _wait_healthy(url: str, server: subprocess.Popen[bytes], log: Path, deadline: float) -> None:
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        if server.poll() is not None:
            raise ServerFailed(f"the server exited with {server.returncode} before it was ready; its log is {log}")
        with contextlib.suppress(urllib.error.URLError, OSError):
            if urllib.request.urlopen(url, timeout=2).status == 200:
                return
        time.sleep(0.1)
    raise ServerFailed(f"the server was not ready after {deadline:.0f} s; its log is {log}")


def _drain() -> None:
    """Let Prefect's background threads deliver what they hold; at exit they would wait a minute for a dead server."""
    if "prefect" in sys.modules:
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        APILogWorker.drain_all(timeout=10)
        EventsWorker.drain_all(timeout=10)


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server's process group (it was started in its own session)."""
    for step in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, step)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=10)
            return


def _die_with_parent() -> None:
    """In the child, before exec: ask Linux to end it when the parent dies, also by SIGKILL."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
