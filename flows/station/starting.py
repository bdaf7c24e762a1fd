"""The commands `racro up`, `racro register`, `racro down`: options -> a station with its deployments registered.

Called by `flows.cli.main`.
"""

from __future__ import annotations

import os
from pathlib import Path

from flows.saying import say
from flows.station import servers
from racro.storage import layout
from racro.storage.files import require_writable

HEADINGS = ("Prefect", "MLflow", "Runs", "Logs")


def up(
    home: Path,
    postgres: str | None,
    artifacts: str | None,
    host: str,
    prefect_port: int,
    mlflow_port: int,
    workers: int,
    gpus: str | None,
    silence: int,
    notify: str | None = None,
) -> None:
    """Start what does not run, register everything, wait for the workers, print the addresses.

    Raises BadOption, StationFailed.
    """
    notify = notify and servers.check_notify(notify)
    options = servers.Options(
        host=host,
        prefect_port=prefect_port,
        mlflow_port=mlflow_port,
        workers=workers,
        gpus=gpus and servers.check_gpus(gpus, workers),
        silence=silence,
        root=layout.absolute(f"{artifacts}/runs" if artifacts else "runs"),
        mlflow_artifacts=layout.absolute(f"{artifacts}/mlflow" if artifacts else str(home / "mlflow" / "artifacts")),
        postgres=postgres and servers.check_postgres(postgres),
    )
    there = servers.check_place(home, options)
    say("starting Prefect, MLflow and workers" if there is None else "they run already; registering what they run")
    if artifacts and "://" in artifacts:
        require_writable(artifacts, f"--artifacts {artifacts}")
    if postgres and there is None:
        servers.make_databases(postgres)
    station = there or servers.up(home, options, postgres)
    os.environ.update(servers.addresses(home))
    from flows.station import registration

    names = registration.register(options.root, silence, notify)
    if not registration.wait_for_workers(workers):
        raise servers.StationFailed(f"not all of {workers} workers came up; their logs are in {home / 'station'}")
    values = options.public_prefect_url, station.options.mlflow_url, options.root, str(home / "station")
    for heading, value in zip(HEADINGS, values, strict=True):
        print(f"{heading:<9}{value}")
    print(f"Ready:   {', '.join(names)}. `racro down` stops all.", flush=True)


def register(root: str, silence: int, notify: str | None = None) -> None:
    """Register everything at PREFECT_API_URL. Raises BadOption, RegistrationFailed."""
    if "PREFECT_API_URL" not in os.environ:
        raise servers.BadOption("PREFECT_API_URL is not set; name the server, or let `racro up` start one")
    notify = notify and servers.check_notify(notify)
    say("registering deployments and automations")
    from flows.station import registration

    names = registration.register(layout.absolute(root), silence, notify)
    print(f"Registered: {', '.join(names)}")


def down(home: Path) -> None:
    """Stop everything."""
    print("stopped" if servers.down(home) else "nothing runs here")
