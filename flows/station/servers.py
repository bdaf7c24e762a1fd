"""The servers and workers of this working directory: starting them, finding them again, stopping them.

`racro up` starts one process, the service manager (`flows.station.service_manager`), which starts the others and keeps
them alive; what runs is recorded in `.racro/station.json`. Not here: what Prefect is told, which is in
`flows.station.registration`. Called by `flows.station.starting` and, to find a station that runs, by
`flows.station.local`. Imports neither prefect nor mlflow: their settings are read when they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, ValidationError

from racro.errors import BadInput
from racro.processes.child import SAFE_PATH, SITE, python

START_DEADLINE = 180.0
"""Seconds until the servers must answer; the first start makes two databases."""
STOP_DEADLINE = 120.0
"""Seconds for the service manager to stop everything; a flow run has 30 of them to end in order."""
WILDCARDS = ("0.0.0.0", "::")
NOBODY = "none"
"""In place of a URL for messages: nobody is told any more."""
SHORTEST_SILENCE = 45
"""Seconds; a flow run gives a sign of life every 30."""
DATABASES = ("prefect", "mlflow")
"""One for each server: both keep their schema's version in a table of the same name."""
MLFLOW = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # processes for jobs that this project never submits
    "UVICORN_APP_DIR": str(SITE),  # its default is the working directory, before everything else
}
"""Environment of an MLflow server."""


class BadOption(BadInput):
    """An option of `racro up` that cannot be followed."""


class StationFailed(RuntimeError):
    """The servers did not come up; the message says what was said last and where the log is."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Options(_Frozen):
    """What was asked for. Holds no secret: it is written to a file and stands in a command line."""

    host: str = "127.0.0.1"
    prefect_port: int = 4200
    mlflow_port: int = 5000
    workers: int = 1
    gpus: str | None = None
    """As in CUDA_VISIBLE_DEVICES; dealt out to the workers. None: all of them see what this process sees."""
    silence: int = 90
    """Seconds without a sign of life after which a server or a flow run is taken for dead."""
    root: str
    """Where the deployments' runs go."""
    mlflow_artifacts: str
    """Where MLflow's artifacts go."""
    postgres: str | None = None
    """Digest of the URL; None: sqlite."""

    @property
    def prefect_url(self) -> str:
        """Of the UI, as this machine reaches it; the API is below it."""
        return f"http://{self._near}:{self.prefect_port}"

    @property
    def mlflow_url(self) -> str:
        """Of UI and API."""
        return f"http://{self._near}:{self.mlflow_port}"

    @property
    def public_prefect_url(self) -> str:
        """Of the UI, as a browser elsewhere reaches it."""
        return f"http://{socket.gethostname()}:{self.prefect_port}" if self.host in WILDCARDS else self.prefect_url

    @property
    def _near(self) -> str:
        host = "127.0.0.1" if self.host in WILDCARDS else self.host
        return f"[{host}]" if ":" in host else host


class Station(_Frozen):
    """What runs: the content of station.json."""

    pid: int
    """Of the manager."""
    started: float
    """When it was, by the system's clock; tells it from another process that got its pid."""
    options: Options
    children: dict[str, int]
    """Name -> pid of what the service manager started last under that name."""

    def alive(self) -> bool:
        """Does the service manager run?"""
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.started) < 2 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def file(home: Path) -> Path:
    """Where a station is recorded."""
    return home / "station.json"


def running(home: Path) -> Station | None:
    """The station that runs here, or None."""
    try:
        station = Station.model_validate_json(file(home).read_text())
    except (FileNotFoundError, ValidationError):
        return None
    return station if station.alive() else None


def addresses(home: Path) -> dict[str, str]:
    """Environment that points Prefect and MLflow to the station that runs here; empty when none does."""
    station = running(home)
    if station is None:
        return {}
    return {"PREFECT_API_URL": f"{station.options.prefect_url}/api", "MLFLOW_TRACKING_URI": station.options.mlflow_url}


def check_place(home: Path, options: Options) -> Station | None:
    """The station that runs here already; None where there is room for one.

    Raises BadOption for a port that is taken or a station that runs with other options.
    """
    station = running(home)
    if station is None:
        check_ports(options.host, {"--prefect-port": options.prefect_port, "--mlflow-port": options.mlflow_port})
    elif station.options != options:
        differing = [name for name, value in options if value != getattr(station.options, name)]
        raise BadOption(f"a station runs here already, with another {', '.join(differing)}; `racro down` first")
    return station


def up(home: Path, options: Options, postgres: str | None) -> Station:
    """Start the service manager where `check_place` found none, and return when the servers answer.

    Raises StationFailed.
    """
    log = home / "station" / "service_manager.log"
    log.parent.mkdir(exist_ok=True)
    file(home).unlink(missing_ok=True)
    with log.open("ab") as stream:
        manager = subprocess.Popen(
            python("flows.station.service_manager", str(home), options.model_dump_json()),
            env=_environment(options, postgres),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    end = time.monotonic() + START_DEADLINE
    try:
        while manager.poll() is None and time.monotonic() < end:
            station = running(home)
            if station is not None and station.pid == manager.pid:
                return station
            time.sleep(0.1)
    except BaseException:  # Ctrl-C above all: half a station must not stay; raised again
        _stop(manager.pid)
        raise
    if manager.poll() is None:
        _stop(manager.pid)
    said = log.read_text(errors="replace").strip().splitlines() or ["nothing was said"]
    raise StationFailed(f"the servers did not come up: {said[-1]} (logs in {log.parent})")


def down(home: Path) -> bool:
    """Stop the station that runs here, with all that it started; False when none does."""
    station = running(home)
    if station is not None:
        _stop(station.pid)
    file(home).unlink(missing_ok=True)
    return station is not None


def _stop(pid: int) -> None:
    """Ask the service manager; where it does not answer, its death ends its children (`racro.processes.supervisor`)."""
    with contextlib.suppress(psutil.NoSuchProcess):
        manager = psutil.Process(pid)
        family = manager.children(recursive=True)
        manager.terminate()
        try:
            manager.wait(STOP_DEADLINE)
        except psutil.TimeoutExpired:
            manager.kill()
        psutil.wait_procs(family, timeout=30)


def _environment(options: Options, postgres: str | None) -> dict[str, str]:
    """Of the service manager, and so of workers and flow runs. The database's URL it keeps for the servers."""
    ours = {
        "PREFECT_API_URL": f"{options.prefect_url}/api",
        "MLFLOW_TRACKING_URI": options.mlflow_url,
        "RACRO_ROOT": options.root,
        "RACRO_WORKPLACE": os.getcwd(),
    }
    if postgres is not None:
        ours["RACRO_POSTGRES"] = postgres
    return {**os.environ, **SAFE_PATH, **ours}


def check_ports(host: str, ports: Mapping[str, int]) -> None:
    """Ports by option. Raises BadOption for one that cannot be listened on, or that two servers would share."""
    for option, port in ports.items():
        check_port(option, host, port)
    if len(set(ports.values())) < len(ports):
        raise BadOption(f"{' and '.join(ports)} are both {port}; each server needs a port of its own")


def check_port(option: str, host: str, port: int) -> None:
    """Raises BadOption for a port that cannot be listened on."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = "is taken by another program" if error.errno == 98 else f"cannot be used ({error.strerror})"
            raise BadOption(
                f"{option} {port}: {reason} on {host}; stop that program, or choose another port"
            ) from error


def check_notify(url: str) -> str:
    """A URL to which messages can go. Raises BadOption."""
    if url != NOBODY and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/].*", url):
        raise BadOption(
            f"--notify {' '.join(url.split())[:100]}: give a URL: a webhook of Slack or of your own (https://...), or "
            f"mailto://USER:PASSWORD@HOST?to=ADDRESS, or `{NOBODY}`"
        )
    return url


def check_gpus(gpus: str, workers: int) -> str:
    """GPUs that can be dealt out to so many workers. Raises BadOption."""
    names = gpus.split(",")
    if not all(re.fullmatch(r"[\w-]+", name) for name in names) or len({*names}) < len(names):
        raise BadOption(f"--gpus {gpus}: write it as in CUDA_VISIBLE_DEVICES, for example 0,1")
    if workers and len(names) % workers:
        raise BadOption(f"--gpus {gpus}: {len(names)} cannot be dealt out evenly; change --workers {workers}")
    return gpus


# --- Postgres ---------------------------------------------------------------------------------------------------------


def check_postgres(url: str) -> str:
    """Digest of a URL that names a Postgres server and a database. Raises BadOption."""
    if not re.fullmatch(r"postgresql://[^/]+/\w+", url):
        raise BadOption("--postgres: write it as postgresql://USER:PASSWORD@HOST:PORT/NAME")
    return hashlib.sha256(url.encode()).hexdigest()[:12]


def database_urls(url: str) -> Mapping[str, str]:
    """Each server's database, NAME_prefect and NAME_mlflow, as its library wants it."""
    prefect, mlflow = (f"{url.removeprefix('postgresql')}_{name}" for name in DATABASES)
    return {"prefect": f"postgresql+asyncpg{prefect}", "mlflow": f"postgresql+psycopg2{mlflow}"}


def make_databases(url: str) -> None:
    """Create the servers' databases where they are missing. Raises BadOption when the server cannot be used."""
    import psycopg2  # type: ignore[import-untyped]
    from psycopg2 import errors, sql

    name = url.rpartition("/")[2]
    try:
        connection = psycopg2.connect(f"{url.rpartition('/')[0]}/postgres", connect_timeout=10)
    except psycopg2.OperationalError as error:
        reason = " ".join(str(error).split())
        raise BadOption(f"--postgres: no connection ({reason}); start the server, or correct the URL") from error
    connection.autocommit = True
    with connection.cursor() as cursor:
        for server in DATABASES:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [f"{name}_{server}"])
            if cursor.fetchone() is None:
                try:
                    cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(f"{name}_{server}")))
                except errors.InsufficientPrivilege as error:
                    raise BadOption(
                        f"--postgres: this user may not create databases; create {name}_{server} for it"
                    ) from error
    connection.close()
