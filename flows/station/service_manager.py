"""The process behind `racro up`: starts Prefect's server, MLflow's server and the workers, and keeps them alive.

    python -m flows.station.service_manager HOME OPTIONS

Each child has a supervisor (`racro.processes.child`): when the service manager ends for any reason, none of them is
left, and when a worker is killed its flow run ends with it. The worker is then started again, and an automation resumes
the run (`flows.station.registration`). The log's last line says why the servers did not come up. Started by
`flows.station.servers`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

import psutil  # type: ignore[import-untyped]

from flows.station.servers import MLFLOW, START_DEADLINE, Options, Station, database_urls, file
from racro.environment import LOOPBACK
from racro.processes import gpus
from racro.processes.child import Child, python

POOL = "racro"
"""Work pool of the workers that are started here."""
HEARTBEAT = 30
"""Seconds between signs of life of a flow run; Prefect's shortest."""
STOP_DEADLINE = {"worker": 60.0, "server": 15.0}
"""Seconds to end in order. A worker gives its flow run 30."""
PAUSES = (1.0, 60.0)
"""Seconds before a child that ended is started again: the first time, and at most; doubled each time."""
HEALTH_CHECK = 5.0
"""Seconds between health checks of a server, and for its answer."""
STEADY = 300.0
"""A child that ran this long may end once without being taken for one that cannot run."""


class Interrupted(Exception):
    """Asked to end."""


@dataclass
class Kept:
    """A child and how it is started."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    log: Path
    health: str = ""
    """URL that answers while it is well; empty where there is none."""
    health_timeout: float = HEALTH_CHECK
    """Seconds to wait for an answer."""
    child: Child | None = None
    since: float = 0.0
    pause: float = PAUSES[0]
    due: float = 0.0
    """When it is started again, while it does not run."""
    alive: float = 0.0
    """When it last answered; before its first answer, when it must have given one."""

    def start(self) -> None:
        """Start it."""
        self.child = Child(self.command, env=self.environment, log=self.log)
        self.since = time.monotonic()
        self.alive = self.since + START_DEADLINE

    def answers(self) -> bool:
        """Does it answer now?"""
        with contextlib.suppress(OSError, HTTPException):
            urlopen(self.health, timeout=self.health_timeout).close()
            self.alive = time.monotonic()
            return True
        return False

    def end_if_silent(self, silence: float) -> None:
        """Kill a server that has not answered for `silence` seconds: it hangs."""
        if self.child is not None and not self.answers() and time.monotonic() - self.alive > silence:
            print(f"{self.name} has not answered for {silence} s", flush=True)
            self.child.stop(0)

    def restart_if_ended(self) -> bool:
        """Start it again where it has ended, not too often; True when it was."""
        now = time.monotonic()
        if self.child is not None and self.child.poll() is not None:
            print(f"{self.name} ended with {self.child.poll()}: {self.child.last_words(1)}", flush=True)
            self.child.stop(0)
            self.child = None
            self.pause = PAUSES[0] if now - self.since > STEADY else min(2 * self.pause, PAUSES[1])
            self.due = now + self.pause
        if self.child is None and now >= self.due:
            self.start()
            return True
        return False


def main(home: Path, options: Options) -> None:
    """Start, watch until SIGTERM, stop."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    databases = database_urls(url) if (url := os.environ.pop("RACRO_POSTGRES", "")) else {}
    servers = [_prefect(home, options, databases), _mlflow(home, options, databases)]
    workers = [_worker(home, options, number) for number in range(1, options.workers + 1)]
    kept = [*servers, *workers]
    try:
        for server in servers:
            server.start()
        for server in servers:
            _wait_healthy(server)
        for worker in workers:
            worker.start()
        _record(home, options, kept)
        checked = time.monotonic()
        while True:
            time.sleep(1)
            if time.monotonic() - checked > HEALTH_CHECK:
                for server in servers:
                    server.end_if_silent(options.silence)
                checked = time.monotonic()
            if sum(one.restart_if_ended() for one in kept):  # all of them, not up to the first
                _record(home, options, kept)
    except Interrupted:
        pass
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        for group, patience in ((workers, STOP_DEADLINE["worker"]), (servers, STOP_DEADLINE["server"])):
            _stop(group, patience)


def _interrupt(*_: object) -> None:
    raise Interrupted


def _stop(group: list[Kept], patience: float) -> None:
    """Ask all at once, then wait for each."""
    from threading import Thread

    threads = [Thread(target=one.child.stop, args=[patience]) for one in group if one.child is not None]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _prefect(home: Path, options: Options, databases: Mapping[str, str]) -> Kept:
    environment = {
        "PREFECT_UI_API_URL": f"{options.public_prefect_url}/api",
        "PREFECT_SERVER_API_HOST": options.host,
        "PREFECT_SERVER_API_PORT": str(options.prefect_port),
        "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
    }
    if databases:
        environment["PREFECT_API_DATABASE_CONNECTION_URL"] = databases["prefect"]
    command = python("flows.station.prefect_server", options.host, str(options.prefect_port))
    health = f"{options.prefect_url}/api/health"
    return Kept("Prefect's server", command, environment, home / "station" / "prefect.log", health)


def _mlflow(home: Path, options: Options, databases: Mapping[str, str]) -> Kept:
    environment = {
        # By the environment: a command line shows in every process list, and this may hold a password.
        "MLFLOW_BACKEND_STORE_URI": databases.get("mlflow", f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"),
        **MLFLOW,
    }
    (home / "mlflow").mkdir(exist_ok=True)
    command = python("mlflow", "server", "--workers", "1")
    command += ["--host", options.host, "--port", str(options.mlflow_port)]
    # Not through the server: what is logged with it and without it lies at the same place.
    command += ["--default-artifact-root", options.mlflow_artifacts, "--no-serve-artifacts"]
    if options.host not in LOOPBACK:
        command += ["--allowed-hosts", "*"]
    health = f"{options.mlflow_url}/health"
    return Kept("MLflow's server", command, environment, home / "station" / "mlflow.log", health)


def _worker(home: Path, options: Options, number: int) -> Kept:
    environment = {
        "PREFECT_WORKER_QUERY_SECONDS": os.environ.get("PREFECT_WORKER_QUERY_SECONDS", "2"),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT),
    }
    if options.gpus:
        environment["CUDA_VISIBLE_DEVICES"] = gpus.shares(options.gpus, options.workers)[number - 1]
    command = python("flows.station.worker", f"{socket.gethostname()}-{number}")
    return Kept(f"worker {number}", command, environment, home / "station" / f"worker-{number}.log")


def _wait_healthy(server: Kept) -> None:
    end = time.monotonic() + START_DEADLINE
    assert server.child is not None
    while time.monotonic() < end:
        if server.child.poll() is not None:
            sys.exit(f"{server.name} ended with {server.child.poll()}: {server.child.last_words(1)}")
        if server.answers():
            return
        time.sleep(0.1)
    sys.exit(f"{server.name} did not answer within {START_DEADLINE:.0f} s")


def _record(home: Path, options: Options, kept: list[Kept]) -> None:
    """Say what runs, whole or not at all."""
    station = Station(
        pid=os.getpid(),
        started=psutil.Process().create_time(),
        options=options,
        children={one.name: one.child.pid for one in kept if one.child is not None},
    )
    partial = file(home).with_suffix(".part")
    partial.write_text(station.model_dump_json(indent=1) + "\n")
    partial.replace(file(home))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Options.model_validate_json(sys.argv[2]))
