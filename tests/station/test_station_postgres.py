"""`racro up` with Postgres and S3: the same there; and what comes of a run when a server dies under it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

from racro.summary import Summary
from tests.support import s3
from tests.support.eventually import eventually
from tests.support.postgres import PASSWORD, Postgres
from tests.support.workplace import Workplace, opened, tiny


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    postgres = Postgres()
    yield postgres
    postgres.remove()


@pytest.fixture(scope="module")
def store() -> Iterator[s3.Store]:
    with s3.served() as store, s3.used(store):
        yield store


@pytest.fixture(scope="module")
def place(database: Postgres, store: s3.Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """Its state is elsewhere too, by RACRO_HOME."""
    options = ("--postgres", database.url, "--artifacts", f"s3://{s3.BUCKET}/team")
    folder = tmp_path_factory.mktemp("postgres")
    yield from opened(folder / "work", *options, home=folder / "state")


@pytest.fixture(scope="module")
def undisturbed(place: Workplace, store: s3.Store) -> Summary:
    return train(place, store)


def train(place: Workplace, store: s3.Store) -> Summary:
    run = place.wait(place.start("train", recipe=tiny(), run="it"))
    return summary_of(place, run, store.objects()["team/runs/it/summary.json"])


def summary_of(place: Workplace, run: dict[str, Any], content: bytes) -> Summary:
    assert (run["state"]["type"], run["run_count"]) == ("COMPLETED", 1), place.log(run["id"])
    return Summary.model_validate_json(content)


def test_a_run_on_postgres_and_s3_and_the_same_again_from_the_cache(
    place: Workplace, store: s3.Store, undisturbed: Summary
) -> None:
    again = train(place, store)
    assert sum(stage.executed for stage in again.stages.values()) == 0
    assert any(key.startswith("team/mlflow/") and undisturbed.mlflow_run_id in key for key in store.objects())
    assert not list(place.folder.iterdir()) and not list(place.home.rglob("*.db"))
    assert {"station", "station.json", "prefect", "mlflow", "locks", "scratch"} <= {
        path.name for path in place.home.iterdir()
    }
    assert place.up().returncode == 0


def points(place: Workplace, summary: Summary) -> Counter[tuple[str, int]]:
    """How often each metric was logged at each step."""
    client = MlflowClient(place.mlflow)
    keys = [key for key in client.get_run(summary.mlflow_run_id).data.metrics if not key.startswith("system/")]
    return Counter((key, one.step) for key in keys for one in client.get_metric_history(summary.mlflow_run_id, key))


@contextlib.contextmanager
def frozen(server: psutil.Process) -> Iterator[None]:
    """A server that takes requests and answers none."""
    family = [server, *server.children(recursive=True)]
    for process in family:
        process.suspend()
    yield
    for process in family:
        process.resume()


@pytest.mark.parametrize("fault", ["Postgres dies, then both servers", "MLflow's server hangs for a minute"])
def test_a_run_goes_on_when_a_server_dies_under_it(
    fault: str, place: Workplace, database: Postgres, undisturbed: Summary, tmp_path: Path
) -> None:
    run = place.start("train", recipe=tiny(), run="it", root=str(tmp_path))

    def updated(times: int) -> bool:
        return eventually(lambda: len([*tmp_path.glob("artifacts/update/*/record.json")]) >= times)

    assert updated(1)
    if fault.startswith("Postgres"):
        database.stop()
        database.start()
        assert updated(2)
        for server in ("Prefect's server", "MLflow's server"):
            psutil.Process(place.station()["children"][server]).kill()
    else:
        with frozen(psutil.Process(place.station()["children"]["MLflow's server"])):
            assert not eventually(lambda: place.get(f"/flow_runs/{run}")["state"]["type"] == "COMPLETED", 60)
    summary = summary_of(place, place.wait(run), (tmp_path / "it" / "summary.json").read_bytes())
    assert (summary.policy.digest, summary.final) == (undisturbed.policy.digest, undisturbed.final)
    executed = {name: stage.executed for name, stage in summary.stages.items()}
    assert executed == {name: stage.executed for name, stage in undisturbed.stages.items()}
    assert points(place, summary) == points(place, undisturbed)
    same = MlflowClient(place.mlflow).search_model_versions(f"run_id = '{summary.mlflow_run_id}'")
    assert len(same) == 2, "one for each evaluation"


def test_the_password_is_in_no_command_line_and_no_file(place: Workplace) -> None:
    assert not [process for process in place.processes() if PASSWORD in " ".join(process.cmdline())]
    files = [file for file in place.home.rglob("*") if file.is_file()]
    assert files and not [file for file in files if PASSWORD.encode() in file.read_bytes()]
    workers = [process for process in place.processes() if "worker" in process.cmdline()]
    assert workers and not [worker for worker in workers if PASSWORD in str(worker.environ())]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("mysql://somewhere/x", "--postgres: write it as postgresql://USER:PASSWORD@HOST:PORT/NAME"),
        ("postgresql://racro@127.0.0.1:1/racro", "--postgres: no connection ("),
    ],
)
def test_a_server_that_cannot_be_used_is_one_line(given: str, said: str, tmp_path: Path) -> None:
    other = Workplace(tmp_path / "other", "--postgres", given)
    done = other.up()
    assert done.returncode == 2
    *_, line = lines = done.stderr.splitlines()
    assert line.startswith(f"racro: {said}") and len(lines) <= 2, "before it connects, it says what it does"
    assert not other.processes()
