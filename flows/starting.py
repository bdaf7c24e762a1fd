"""The commands `racro up`, `racro register`, `racro down`: options -> a station with its deployments registered.

Called by `flows.cli`.
"""

from __future__ import annotations

import os
from pathlib import Path

from flows import station
from racro import layout
from racro.storage import require_writable

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
) -> None:
    """Start what does not run, register everything, wait for the workers, print the addresses.

    Raises BadOption, StationFailed.
    """
    options = station.Options(
        host=host,
        prefect_port=prefect_port,
        mlflow_port=mlflow_port,
        workers=workers,
        gpus=gpus and station.check_gpus(gpus, workers),
        silence=silence,
        root=layout.absolute(f"{artifacts}/runs" if artifacts else "runs"),
        mlflow_artifacts=layout.absolute(f"{artifacts}/mlflow" if artifacts else str(home / "mlflow" / "artifacts")),
        postgres=postgres and station.check_postgres(postgres),
    )
    if artifacts and "://" in artifacts:
        require_writable(artifacts, f"--artifacts {artifacts}")
    if postgres and station.running(home) is None:
        station.make_databases(postgres)
    started = station.up(home, options, postgres)
    os.environ.update(station.addresses(home))
    from flows import registration

    names = registration.register(options.root, silence)
    if not registration.wait_for_workers(workers):
        raise station.StationFailed(f"not all of {workers} workers came up; their logs are in {home / 'station'}")
    values = options.public_prefect_url, started.options.mlflow_url, options.root, str(home / "station")
    for heading, value in zip(HEADINGS, values, strict=True):
        print(f"{heading:<9}{value}")
    print(f"Ready:   {', '.join(names)}. `racro down` stops all.", flush=True)


def register(root: str, silence: int) -> None:
    """Register everything at PREFECT_API_URL. Raises BadOption, RegistrationFailed."""
    if "PREFECT_API_URL" not in os.environ:
        raise station.BadOption("PREFECT_API_URL is not set; name the server, or let `racro up` start one")
    from flows import registration

    print(f"Registered: {', '.join(registration.register(layout.absolute(root), silence))}")


def down(home: Path) -> None:
    """Stop everything."""
    print("stopped" if station.down(home) else "nothing runs here")
