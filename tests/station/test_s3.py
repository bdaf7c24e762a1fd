"""A root on S3: commands, servers and workers with a real S3 API; bad buckets and keys; no secret is left anywhere."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from racro.summary import Summary
from tests.support import s3
from tests.support.talker import Talker
from tests.support.workplace import Workplace, opened, tiny

PLANTED = {"OPENAI_API_KEY": "sk-planted-openai", "PGPASSWORD": "planted-postgres", "HF_TOKEN": "hf_planted"}
"""Beside the keys of S3 itself."""
ROOT = f"s3://{s3.BUCKET}/team/runs"


@pytest.fixture(scope="module")
def store() -> Iterator[s3.Store]:
    with s3.served() as store, s3.used(store, **PLANTED):
        yield store


@pytest.fixture(scope="module")
def place(store: s3.Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    yield from opened(tmp_path_factory.mktemp("s3"), "--artifacts", f"s3://{s3.BUCKET}/team")


@pytest.fixture(scope="module")
def recipe() -> Iterator[str]:
    """The reasoner sits behind an endpoint that wants a key."""
    talker = Talker(models=("embedded",))
    engine = ("iterations=1", "reasoner.engine.type=server", f'runtime.reasoner.urls=["{talker.url}"]')
    try:
        yield tiny(*engine)
        assert talker.headers and {head.get("Authorization") for head in talker.headers} == {"Bearer sk-planted-openai"}
    finally:
        talker.die()


@pytest.fixture(scope="module")
def first(place: Workplace, store: s3.Store, recipe: str) -> Summary:
    """A run that a worker executed."""
    run = place.wait(place.start("train", recipe=recipe, run="first"))
    assert run["state"]["type"] == "COMPLETED", place.log(run["id"])
    return summary_of(store, "first")


def summary_of(store: s3.Store, run: str) -> Summary:
    return Summary.model_validate_json(store.objects(f"team/runs/{run}/summary.json")[f"team/runs/{run}/summary.json"])


def test_everything_that_a_run_makes_lies_on_s3(place: Workplace, store: s3.Store, first: Summary) -> None:
    objects = store.objects("team")
    assert {f"team/runs/first/{name}" for name in ("recipe.yaml", "report.html", "curve.png")} <= objects.keys()
    records = [key for key in objects if key.startswith("team/runs/artifacts/") and key.endswith("/record.json")]
    assert len(records) == sum(total.executed for total in first.stages.values())
    assert first.policy.uri.startswith(f"{ROOT}/artifacts/update/")
    logged = [key for key in objects if key.startswith("team/mlflow/") and first.mlflow_run_id in key]
    assert {key.rpartition("/")[2] for key in logged} >= {"summary.json", "recipe.yaml", "report.html"}
    [block] = [b for b in place.post("/block_documents/filter").json() if b["data"].get("root") == ROOT]
    assert block["block_type"]["name"] == "RACRO records", "Prefect's results are the records"
    assert not (place.folder / "runs").exists()


def test_the_same_again_by_command_is_cached(place: Workplace, store: s3.Store, first: Summary, recipe: str) -> None:
    (place.folder / "recipe.yaml").write_text(recipe)
    done = place.racro("train", "recipe.yaml", "--root", ROOT, "--run", "by-hand")
    assert done.returncode == 0, done.stderr
    again = summary_of(store, "by-hand")
    assert sum(total.executed for total in again.stages.values()) == 0
    assert again.policy == first.policy


def test_no_secret_is_in_anything_that_is_left(place: Workplace, store: s3.Store, first: Summary) -> None:
    secrets = {name: value.encode() for name, value in PLANTED.items()} | {"S3": store.secret.encode()}
    for database in place.folder.rglob("*.db"):
        with sqlite3.connect(database) as connection:
            connection.execute("PRAGMA wal_checkpoint(FULL)")
    left = {str(file): file.read_bytes() for file in place.folder.rglob("*") if file.is_file()} | store.objects()
    for kind in ("prefect.db", "mlflow.db", "service_manager.log", "report.html", "record.json", "station.json"):
        assert [name for name in left if name.endswith(kind)], f"no {kind} was searched"
    assert [(name, secret) for name, data in left.items() for secret, value in secrets.items() if value in data] == []
    commands = [" ".join(process.cmdline()).encode() for process in place.processes()]
    assert commands and not [c for c in commands for value in secrets.values() if value in c]


@pytest.mark.parametrize(
    ("root", "environment", "said"),
    [
        ("s3://no-such-bucket/runs", {}, "The specified bucket does not exist"),
        (ROOT, {"AWS_ACCESS_KEY_ID": "nobody"}, "The AWS Access Key Id you provided does not exist in our records."),
        (ROOT, {"AWS_SECRET_ACCESS_KEY": "wrong"}, "The request signature we calculated does not match"),
        (
            ROOT,
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"},
            "Could not connect to the endpoint",
        ),
    ],
    ids=["bucket", "key", "secret", "endpoint"],
)
def test_a_store_that_cannot_be_used_is_one_line(
    root: str, environment: dict[str, str], said: str, store: s3.Store, tmp_path: Path
) -> None:
    other = Workplace(tmp_path / "other", "--artifacts", root.removesuffix("/runs"))
    done = other.racro("up", *other.options, **environment)
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 2, "before it connects, it says what it does"
    line = lines[-1]
    assert line.startswith(f"racro: --artifacts {root.removesuffix('/runs')}: cannot be written to ({said}")
    assert line.endswith("check bucket, keys and endpoint (AWS_*), or choose another place")
    assert store.secret not in line and not other.processes()
