"""Two writers of one artifact never mix their files, in whatever order their steps fall."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from racro.schema import DroppedRow, QuestionTable
from racro.storage import artifacts, attempts, files, leases
from racro.storage.artifacts import Record
from racro.storage.files import create_file
from tests.support.examples import examples


def rows(writer: int) -> list[DroppedRow]:
    return [DroppedRow(source="s", row=row, reason=f"writer {writer}", detail="") for row in range(3 + writer)]


def record(**more: object) -> Record:
    known = {"stage": "s", "identity": "i", "inputs": {}, "code_version": "0", "handle": {"rows": 0, "digest": ""}}
    return Record.model_validate({**known, "handle_type": "QuestionTable", "seconds": 0, "finished": 0, **more})


def read(folder: str) -> list[DroppedRow]:
    return list(artifacts.read_table(QuestionTable(uri=folder, rows=0, digest=""), DroppedRow))


def write(folder: str, writer: int, machine: str) -> Iterator[str]:
    """One writer, step by step; at the end the folder of the files that count."""
    place = f"{folder}/attempt-{machine}-{uuid4().hex[:8]}"
    yield place
    shards = artifacts.write_table(place, rows(writer), DroppedRow)
    yield place
    counts = artifacts.write_record(place, record(shards=shards))
    yield artifacts.files_of(folder, counts)


@pytest.mark.parametrize("kind", ["file", "memory"])
@settings(max_examples=examples(20), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations([0, 0, 0, 1, 1, 1]))
def test_all_writers_end_with_the_files_of_one(order: list[int], kind: str, tmp_path: Path) -> None:
    folder = f"{tmp_path}/{uuid4().hex}" if kind == "file" else f"memory://attempts/{uuid4().hex}"
    artifacts.write_file(f"{folder}/part-00000.parquet", b"left by a killed run, beside where the record will be")
    writers = [write(folder, 0, "0" * 8), write(folder, 1, "1" * 8)]
    last = [""] * 2
    for writer in order:
        last[writer] = next(writers[writer])
    assert last[0] == last[1], "both say the same"
    winner = rows(order[next(i for i, w in enumerate(order) if order[: i + 1].count(w) == 3)])
    assert read(folder) == winner == read(last[0]), "by the artifact's folder and by its handle's"
    fs, path = fsspec.core.url_to_fs(folder)
    left = {file.removeprefix(path).strip("/").partition("/")[0] for file in fs.find(path)}
    assert left == {"record.json", last[0].rpartition("/")[2]}, "nothing of the other is left"


def test_an_artifact_without_attempts_is_read_as_before(tmp_path: Path) -> None:
    folder = str(tmp_path / "old")
    shards = artifacts.write_table(folder, rows(0), DroppedRow)
    old = record(shards=shards).model_dump(mode="json", exclude={"place"})
    artifacts.write_file(f"{folder}/record.json", artifacts.to_json(Record.model_validate(old)).encode())
    assert read(folder) == rows(0)
    known = artifacts.read_record(folder)
    assert known is not None and artifacts.files_of(folder, known) == folder


def test_what_earlier_terms_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    folder = str(tmp_path / "artifact")
    with leases.held(folder, "here"):
        killed = attempts.new(folder)
        artifacts.write_file(f"{killed}/model.safetensors", b"half")
    unguarded = attempts.new(folder)
    assert Path(killed).exists(), "who holds no lease removes nothing"
    with leases.held(folder, "here"):
        again = attempts.new(folder)
        assert not Path(killed).exists() and len({killed, unguarded, again}) == 3


def test_a_pruned_attempt_is_known_by_its_folder_and_by_its_files(tmp_path: Path) -> None:
    folder = str(tmp_path / "artifact")
    place = attempts.new(folder)
    artifacts.write_file(f"{place}/weights", b"1")
    artifacts.write_record(place, record())
    artifacts.prune(folder)
    assert artifacts.read_record(place) is None and artifacts.known_record(place) == artifacts.known_record(folder)
    assert [file.name for file in Path(folder).rglob("*")] == ["pruned.json"]
    with pytest.raises(artifacts.Pruned, match=r"pruned\.json files in .*/\* and"):
        artifacts.require_files(place)


@contextlib.contextmanager
def meanwhile(work: Callable[[int], object]) -> Iterator[None]:
    """What another writer does, again and again."""
    over = threading.Event()

    def act() -> None:
        at = 0
        while not over.is_set():
            with contextlib.suppress(OSError):
                work(at := at + 1)

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_the_files_of_a_writer_that_lives_stop_nobody(tmp_path: Path) -> None:
    folder, other = tmp_path / "artifact", tmp_path / "artifact" / "attempt-00000001-0a0a0a0a"

    def write(at: int) -> None:
        other.mkdir(parents=True, exist_ok=True)
        (other / f"part-{at:05d}").write_bytes(b"rows")

    with meanwhile(write):
        for _ in range(200):
            attempts.keep_only(str(folder), "attempt-00000002-0b0b0b0b")
    with leases.held(str(folder), "here"), meanwhile(write):
        for _ in range(200):
            attempts.new(str(folder))


def test_a_file_is_created_also_while_its_folder_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process removes it before the file has its content, and before it has its name."""
    removals = {"fsync": 2, "link": 2}

    def removing(name: str) -> Callable[..., None]:
        real = getattr(os, name)

        def call(*arguments: Any) -> None:
            if removals[name]:
                removals[name] -= 1
                shutil.rmtree(tmp_path / "lease")
            real(*arguments)

        return call

    for name in removals:
        monkeypatch.setattr(os, name, removing(name))
    assert create_file(f"{tmp_path}/lease/term-00000001.claim", b"mine")
    assert not create_file(f"{tmp_path}/lease/term-00000001.claim", b"yours")
    assert not any(removals.values())
    assert [(file.name, file.read_bytes()) for file in (tmp_path / "lease").iterdir()] == [
        ("term-00000001.claim", b"mine")
    ]


def test_a_file_of_another_that_is_gone_when_it_is_read_was_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    uri, read = f"memory://{uuid4().hex}/claim", files.read_file

    def gone(uri: str) -> bytes:
        fsspec.filesystem("memory").rm(uri)
        return read(uri)

    assert create_file(uri, b"theirs")
    monkeypatch.setattr(files, "read_file", gone)
    assert not create_file(uri, b"ours")
