"""This machine: where local state lives, and servers that last as long as one command.

All state stays in one folder (`racro.home`); PREFECT_API_URL and MLFLOW_TRACKING_URI are respected when set. `settle`
must run before prefect, mlflow or transformers are imported, so this module imports none of them. Called by
`flows.cli`; a worker or a deployment brings its own environment.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from flows.station import lost, servers
from racro import home as state
from racro.errors import BadInput
from racro.processes.child import SAFE_PATH, Child, ending, python, reserved_port
from racro.storage.files import full_disk_as_such, in_time

QUIET = {
    # load bars would break ours
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    # standard output is what the command says, with --json for a program
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
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
"""Services of the server that one command does not need, and that would cost it CPU."""
ASK = signal.SIGUSR2
"""Ends the server of a command. Not SIGTERM, which may go to all processes of a job: the command must then still be
able to tell the server how its flow run ended."""
START_DEADLINE = 120.0
"""Seconds until a server must answer."""
RACRO_UI = "http://127.0.0.1:4200"
"""Where `racro ui` shows a run later on: links that are kept lead there, because this server ends with the command."""
STOP_DEADLINE = 10.0
"""Seconds for a server to end by itself."""


AWAY_DEADLINE = 15.0
"""Seconds for a server that others run to answer. One that is being restarted comes back in time."""
LONGEST = 1 << 20
"""Bytes of an answer that are waited for."""


class ServerFailed(RuntimeError):
    """The local server did not come up; the message says where its log is."""


class NoHome(BadInput):
    """The folder for this machine's state cannot be made or written to."""


class NoServer(BadInput):
    """There is no server at PREFECT_API_URL or MLFLOW_TRACKING_URI."""


def settle(home: Path | None = None) -> Path:
    """Point every library's state under `home`, unless the environment says otherwise. Returns the absolute home.

    home: None: what `racro.home` says. Where a station runs there (`racro up`), its servers are used. Raises NoHome.
    """
    home = (home or state.home()).resolve()
    try:
        home.mkdir(parents=True, exist_ok=True)
        (home / ".gitignore").write_text("*\n")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise NoHome(
            f"{home}: {error.strerror}; start racro in a folder that this user may write to, or name one in RACRO_HOME"
        ) from error
    os.environ["RACRO_HOME"] = str(home)
    defaults = {
        **QUIET,
        **SAFE_PATH,
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(home / "prefect" / "storage"),  # does not follow PREFECT_HOME
        "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow' / 'mlflow.db'}",
        "MPLCONFIGDIR": str(home / "matplotlib"),
        "TORCHINDUCTOR_CACHE_DIR": str(home / "torchinductor"),
        "HF_DATASETS_CACHE": str(home / "datasets"),
    }
    defaults |= servers.addresses(home)
    if not os.environ.get("MLFLOW_TRACKING_URI", "").strip():
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        (home / "mlflow").mkdir(exist_ok=True)
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    return home


@contextlib.contextmanager
def prefect_server(
    home: Path,
    port: int | None = None,
    meanwhile: Callable[[], None] = lambda: None,
    waiting: Iterable[Callable[[], None]] = (),
) -> Iterator[str]:
    """A Prefect server on loopback for as long as the context lasts; yields its API URL.

    `meanwhile` is called while the server starts, with its URL in PREFECT_API_URL. As long as the server is not ready
    after that, one of `waiting` is called after the other.

    Its database is `home`/prefect/prefect.db, so every run of this working directory shows in one UI. With
    PREFECT_API_URL set nothing is started. Raises ServerFailed and NoServer.
    """
    if configured := os.environ.get("PREFECT_API_URL"):
        _require_prefect(configured)
        with lost.living(home):
            meanwhile()
            yield configured
        return
    with contextlib.nullcontext(port) if port else reserved_port() as port, lost.living(home) as since:
        yield from _prefect_server(home, port, meanwhile, waiting, since)


def _prefect_server(
    home: Path, port: int, meanwhile: Callable[[], None], waiting: Iterable[Callable[[], None]], since: datetime
) -> Iterator[str]:
    environment = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in SERVICES_OFF}
    environment |= {
        "PREFECT_UI_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
    }
    command = python("flows.station.prefect_server", "127.0.0.1", str(port), str(int(ASK)))
    url = f"http://127.0.0.1:{port}/api"
    log = home / "prefect" / "server.log"

    def use() -> None:
        os.environ["PREFECT_API_URL"] = url  # not for the server itself
        os.environ.setdefault("PREFECT_UI_URL", RACRO_UI)
        meanwhile()

    try:
        with (
            _alone_with_new(home / "prefect" / "prefect.db") as made,
            _serving("Prefect's server", command, environment, log, f"{url}/health", ASK, use, waiting),
        ):
            made()
            lost.report(since)
            try:
                yield url
            finally:
                _drain()
    finally:
        os.environ.pop("PREFECT_API_URL", None)
        if os.environ.get("PREFECT_UI_URL") == RACRO_UI:
            del os.environ["PREFECT_UI_URL"]


@contextlib.contextmanager
def _alone_with_new(database: Path) -> Iterator[Callable[[], None]]:
    """While the database is not there, one command at a time makes it, until it calls what this yields."""
    from tasks.running.locks import in_turn

    with contextlib.ExitStack() as stack:
        stack.enter_context(in_turn("prefect"))
        if database.exists():
            stack.close()
        yield stack.close


def _require_prefect(url: str) -> None:
    """Raises NoServer."""
    fault = (
        f"PREFECT_API_URL: {url} is no Prefect server that can be used ({{}}); give the address of its API, "
        "http://HOST:4200/api, or unset the variable"
    )
    status, kind, body = first_answer(url, fault)
    if status in (401, 403):
        return  # Prefect sends the key, and has words of its own for a wrong one
    if status != 200 or kind == "text/html":
        raise NoServer(fault.format(f"it answers {status}" if status != 200 else "it answers with a web page"))
    if body.lstrip()[:1] in (b"{", b"["):
        raise NoServer(fault.format("it answers as another program"))
    first_answer(url, fault, "ready")  # it is healthy also while its database is away


def first_answer(url: str, fault: str, page: str = "health") -> tuple[int, str, bytes]:
    """Status, content type and text of what a server says about its health. Raises NoServer: `fault` with the reason.

    A server that does not answer, or only with errors of its own, has AWAY_DEADLINE to get well.
    """
    end = time.monotonic() + AWAY_DEADLINE

    def ask() -> tuple[int, str, bytes]:
        with urllib.request.urlopen(f"{url.rstrip('/')}/{page}", timeout=AWAY_DEADLINE) as answer:
            return answer.status, answer.headers.get_content_type(), answer.read(LONGEST)

    while True:
        try:
            return in_time(ask, max(1.0, end - time.monotonic()))  # urllib's limit is for each read
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return error.code, "", b""
            reason = f"it answers {error.code}"
        except OSError as error:
            reason = " ".join(str(getattr(error, "reason", error)).split())
        except (ValueError, http.client.HTTPException) as error:  # no URL, or no HTTP
            raise NoServer(fault.format(" ".join(str(error).split()))) from error
        if time.monotonic() + 1 > end:
            raise NoServer(fault.format(reason))
        time.sleep(1)


@contextlib.contextmanager
def mlflow_ui(home: Path, port: int) -> Iterator[str]:
    """The MLflow UI on the local tracking store; yields its URL. Raises ServerFailed."""
    command = python("mlflow", "ui", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    command += ["--backend-store-uri", os.environ["MLFLOW_TRACKING_URI"]]
    url = f"http://127.0.0.1:{port}"
    with _serving("MLflow's server", command, servers.MLFLOW, home / "mlflow" / "ui.log", f"{url}/health"):
        yield url


@contextlib.contextmanager
def _serving(
    name: str,
    command: Sequence[str],
    env: Mapping[str, str],
    log: Path,
    health: str,
    ask: int = signal.SIGTERM,
    meanwhile: Callable[[], None] = lambda: None,
    waiting: Iterable[Callable[[], None]] = (),
) -> Iterator[None]:
    """A server for as long as the context lasts, from when it answers at `health`. Raises ServerFailed."""
    server = Child(command, env=env, log=log, ask=ask)
    rest = iter(waiting)

    def ready() -> bool:
        with contextlib.suppress(OSError):
            if urllib.request.urlopen(health, timeout=2).status == 200:
                return True
        if work := next(rest, None):
            work()
        return False

    try:
        meanwhile()
        with full_disk_as_such(str(log.parent)):
            try:
                up = server.wait_until(ready, START_DEADLINE)
            except TimeoutError as error:
                raise ServerFailed(f"{name} was not ready after {START_DEADLINE:.0f} s; its log is {log}") from error
            if not up:
                how = f"{ending(server.poll() or 0)}: {server.last_words(1)}"
                raise ServerFailed(f"{name} ended before it was ready ({how}); its log is {log}")
        try:
            yield
        except BadInput:
            raise
        except Exception as error:  # a library's words for a server that is no longer there
            if (code := server.poll()) is None:
                with full_disk_as_such(str(log.parent)):
                    raise
            raise ServerFailed(
                f"{name} ended while it was used ({ending(code)}); its log is {log}; the same command goes on where it "
                "stopped"
            ) from error
    finally:
        server.stop(STOP_DEADLINE)


def _drain() -> None:
    """Let Prefect's background threads deliver what they hold; at exit they would wait a minute for a dead server."""
    if "prefect" in sys.modules:
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        APILogWorker.drain_all(timeout=10)
        EventsWorker.drain_all(timeout=10)
