"""Typed parquet: what was written is read, anything else is noticed, and a file is there whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import signal
import time
import types
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin
from uuid import uuid4

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racro.schema import (
    DroppedRow,
    Entry,
    Handle,
    ImageFact,
    ImageRef,
    ModelOutput,
    Problem,
    Result,
    Rollout,
    Row,
    ScoredRollout,
)
from racro.storage import artifacts
from racro.storage.arrow import arrow_schema
from racro.storage.artifacts import BadArtifact, Record, Shard, read_shard, read_table, table_digest, write_table
from tests.support import cases
from tests.support.examples import examples

ROWS: tuple[type[Row], ...] = (Problem, DroppedRow, Rollout, ScoredRollout, ModelOutput, Result, Entry)

PLAIN = {
    str: st.text(max_size=20),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False).map(lambda x: x + 0.0),  # -0.0 and 0.0 are equal and not the same bytes
    bool: st.booleans(),
}


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """Anything that a field of this type may hold."""
    if annotation in PLAIN:
        return PLAIN[annotation]
    if get_origin(annotation) is Literal:
        return st.sampled_from(get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return st.one_of(*(st.none() if a is type(None) else values(a) for a in get_args(annotation)))
    if get_origin(annotation) is tuple:
        return st.lists(values(get_args(annotation)[0]), max_size=3).map(tuple)
    if issubclass(annotation, StrEnum):
        return st.sampled_from(list(annotation))
    return rows(annotation)


def rows(model: type[Row]) -> st.SearchStrategy[Row]:
    return st.fixed_dictionaries({k: values(f.annotation) for k, f in model.model_fields.items()}).map(
        lambda fields: model(**fields)
    )


tables = st.sampled_from(ROWS).flatmap(lambda model: st.tuples(st.just(model), st.lists(rows(model), max_size=7)))


@pytest.fixture(params=["file", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"file://{tmp_path}/table" if request.param == "file" else f"memory://artifacts/{uuid4().hex}"


def record(shards: tuple[Shard, ...], **changes: Any) -> Record:
    content: dict[str, Any] = {
        "stage": "s",
        "identity": "i",
        "inputs": {},
        "code_version": "0",
        "handle": {},
        "handle_type": "Handle",
        "seconds": 0.5,
        "finished": 1.5,
    }
    return Record(**content | {"shards": shards} | changes)


def finish(folder: str, shards: tuple[Shard, ...]) -> Handle:
    artifacts.write_record(folder, record(shards))
    return Handle(uri=folder, rows=sum(shard.rows for shard in shards), digest=table_digest(shards))


def problem(i: int = 0, **changes: Any) -> Problem:
    fields: dict[str, Any] = {
        "uid": str(i),
        "question": "¿cuánto? 多少 🙂",
        "answer": "3",
        "kind": "integer",
        "category": "",
        "choices": (),
        "images": (ImageRef(path="a.png", sha256="0"),),
        "scene": None,
    }
    return Problem(**fields | changes)


# --- round trip -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["file", "memory"])
@pytest.mark.parametrize("per_shard", [1, 3, 4096])
def test_any_rows_are_read_as_they_were_written(scheme: str, per_shard: int, tmp_path: Path) -> None:
    base = f"file://{tmp_path}" if scheme == "file" else "memory://artifacts-any"

    @settings(max_examples=examples(25), deadline=None)
    @given(tables)
    def check(table: tuple[type[Row], list[Row]]) -> None:
        model, written = table
        place = f"{base}/{uuid4().hex}"
        shards = write_table(place, iter(written), model, per_shard)
        assert [shard.rows for shard in shards] == [
            len(written[i : i + per_shard]) for i in range(0, len(written), per_shard)
        ]
        found = list(read_table(finish(place, shards), model))
        assert found == written
        assert [type(row) for row in found] == [model] * len(written)

    check()


@settings(max_examples=examples(40), deadline=None)
@given(tables, st.randoms(use_true_random=False))
def test_equal_rows_have_equal_digests_and_others_have_others(table: tuple[type[Row], list[Row]], dice: Any) -> None:
    model, written = table

    def digest(some: list[Row]) -> str:
        return table_digest(write_table(f"memory://digest/{uuid4().hex}", some, model))

    shuffled = list(written)
    dice.shuffle(shuffled)
    assert digest(written) == digest([model.model_validate(row.model_dump()) for row in written])
    assert (digest(shuffled) == digest(written)) == (shuffled == written)
    if written:
        assert digest(written[:-1]) != digest(written)
        assert digest([*written, written[0]]) != digest(written)


def test_the_digest_takes_in_what_belongs_to_the_table() -> None:
    shards = (Shard(name="a", rows=1, sha256="0"),)
    assert table_digest(shards, "images") != table_digest(shards) != table_digest(shards * 2)


def test_a_row_with_an_unknown_field_or_a_wrong_type_is_no_row() -> None:
    with pytest.raises(ValueError, match="extra"):
        ImageRef(path="", sha256="", size=3)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="frozen"):
        problem().uid = "other"  # type: ignore[misc]


# --- what is not as it was written ------------------------------------------------------------------------------------


@pytest.fixture
def written(folder: str) -> tuple[str, Shard]:
    shards = write_table(folder, [problem(i) for i in range(20)], Problem)
    finish(folder, shards)
    return folder, shards[0]


def test_any_flipped_byte_is_noticed_and_the_file_and_the_remedy_are_named(written: tuple[str, Shard]) -> None:
    place, shard = written
    file = f"{place}/{shard.name}"
    good = artifacts.read_file(file)
    dice = random.Random(0)
    for at in [0, len(good) - 1, *(dice.randrange(len(good)) for _ in range(40))]:
        artifacts.write_file(file, good[:at] + bytes([good[at] ^ (1 << dice.randrange(8))]) + good[at + 1 :])
        with pytest.raises(BadArtifact, match=r"corrupt.*delete its folder and run again") as caught:
            list(read_shard(file, Problem, shard.sha256))
        assert file in str(caught.value) and "\n" not in str(caught.value)
    artifacts.write_file(file, good)
    assert len(list(read_shard(file, Problem, shard.sha256))) == 20


def test_a_missing_shard_and_a_missing_record_are_named_with_the_remedy(written: tuple[str, Shard]) -> None:
    place, shard = written
    handle = Handle(uri=place, rows=20, digest="d")
    artifacts.delete_file(f"{place}/{shard.name}")
    with pytest.raises(BadArtifact, match=r"part-00000\.parquet is missing; delete its folder and run again"):
        list(read_table(handle, Problem))
    artifacts.delete_file(f"{place}/record.json")
    with pytest.raises(BadArtifact, match=r"holds no record\.json.*run again to make it") as caught:
        list(read_table(handle, Problem))
    assert place in str(caught.value)
    with pytest.raises(BadArtifact, match=r"holds no record\.json"):
        list(read_table(Handle(uri=f"{place}-never", rows=0, digest=""), Problem))


@pytest.mark.parametrize("data", [b"PAR1 this is text", b"", b"PAR1" + bytes(100) + b"PAR1"])
def test_a_text_named_parquet_is_no_table(folder: str, data: bytes) -> None:
    artifacts.write_file(f"{folder}/part-00000.parquet", data)
    with pytest.raises(
        BadArtifact, match=r"part-00000\.parquet is not a parquet file; delete its folder and run again"
    ):
        list(read_shard(f"{folder}/part-00000.parquet", Problem))


def test_a_foreign_parquet_is_refused_with_the_columns_that_differ(tmp_path: Path) -> None:
    file = str(tmp_path / "foreign.parquet")
    schema = pa.schema([pa.field("question", pa.string(), nullable=False), pa.field("answer", pa.int64())])
    pq.write_table(pa.Table.from_pylist([{"question": "?", "answer": 3}], schema=schema), file)
    with pytest.raises(BadArtifact, match=r"not a table of Problem: columns .*answer.*images.* differ") as caught:
        list(read_shard(file, Problem))
    assert "question" not in str(caught.value).partition("columns")[2]
    write_table(str(tmp_path), [], Problem)
    (shard,) = write_table(str(tmp_path / "p"), [problem()], Problem)
    for model in set(ROWS) - {Problem}:
        with pytest.raises(BadArtifact, match=f"not a table of {model.__name__}"):
            list(read_shard(f"{tmp_path}/p/{shard.name}", model))


def test_a_table_from_before_a_column_was_added_is_read_without_it(tmp_path: Path) -> None:
    """Where the column's default says nothing; any other column must be there."""
    known = ImageFact(text="A bar.")
    rows = [cases.problem("a"), cases.problem("b", facts=(known,))]
    write_table(str(tmp_path), rows, Problem)
    file = tmp_path / "part-00000.parquet"
    table = pq.read_table(file)
    assert [row.facts for row in read_shard(str(file), Problem)] == [(), (known,)]
    pq.write_table(table.drop_columns(["facts", "mcq"]), file)
    assert list(read_shard(str(file), Problem)) == [cases.problem("a"), cases.problem("b")]
    pq.write_table(table.drop_columns(["facts", "scene"]), file)
    with pytest.raises(BadArtifact, match="is not a table of Problem: columns scene differ"):
        list(read_shard(str(file), Problem))


def test_columns_that_may_hold_nulls_where_ours_may_not_are_refused(tmp_path: Path) -> None:
    """A null in a required column would otherwise become a validation error deep in a stage."""
    schema = pa.schema([field.with_nullable(True) for field in arrow_schema(DroppedRow)])
    rows = [{"source": None, "row": 1, "reason": "", "detail": ""}]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "null.parquet")
    with pytest.raises(BadArtifact, match=r"not a table of DroppedRow: columns .*detail, reason, row, source differ"):
        list(read_shard(str(tmp_path / "null.parquet"), DroppedRow))


@pytest.mark.parametrize("change", [{"new_field": 1}, {"seconds": "long"}, {"shards": [{"name": "x"}]}])
def test_a_record_of_another_version_says_what_to_delete(folder: str, change: dict[str, Any]) -> None:
    content = record(()).model_dump(mode="json") | change
    artifacts.write_file(f"{folder}/record.json", json.dumps(content).encode())
    with pytest.raises(
        BadArtifact, match=r"record\.json is not a record of this version; delete the folder and run again"
    ):
        artifacts.read_record(folder)


def test_without_a_whole_record_a_folder_is_not_done(folder: str) -> None:
    assert artifacts.read_record(folder) is None
    write_table(folder, [problem()], Problem)
    assert artifacts.read_record(folder) is None
    whole = record(()).model_dump_json().encode()
    artifacts.write_file(f"{folder}/record.json.1a2b3c4d.tmp", whole)
    assert artifacts.read_record(folder) is None
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        artifacts.write_file(f"{folder}/record.json", whole[:cut])
        assert artifacts.read_record(folder) is None
    artifacts.write_file(f"{folder}/record.json", whole)
    assert artifacts.read_record(folder) == record(())


@settings(max_examples=examples(25), deadline=None)
@given(
    inputs=st.dictionaries(
        st.text(max_size=5), st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists)
    ),
    metrics=st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False, allow_infinity=False)),
)
def test_a_record_is_read_as_it_was_written(inputs: dict[str, Any], metrics: dict[str, float]) -> None:
    written = record((Shard(name="a", rows=1, sha256="0"),), inputs=inputs, metrics=metrics)
    place = f"memory://records/{uuid4().hex}"
    artifacts.write_record(place, written)
    assert artifacts.read_record(place) == written


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_is_old_or_new_but_never_half_whenever_its_writer_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    contents = [bytes([letter]) * 4_000_000 for letter in b"ab"]
    artifacts.write_file(str(file), contents[0])
    dice = random.Random(0)
    seen: set[bytes] = set()
    leftovers: list[Path] = []
    kills, deadline = 0, time.monotonic() + 600
    while (kills < 20 or len(seen) < 2 or not leftovers) and time.monotonic() < deadline:
        kills += 1
        writer = os.fork()
        if writer == 0:
            while True:
                for content in contents:
                    artifacts.write_file(str(file), content)
        time.sleep(dice.uniform(0.002, 0.04 * max(1, kills / 20)))  # on a busy machine the writer comes later to write
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        found = file.read_bytes()
        assert found in contents
        seen.add(found[:1])
        leftovers = [path for path in tmp_path.iterdir() if path != file]
    assert seen == {b"a", b"b"}, "the writer never came to write"
    assert leftovers, "no kill fell into a write"
    assert all(path.name.startswith("file.") and path.suffix == ".tmp" for path in leftovers)


def test_a_write_that_fails_keeps_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    """A limit on the size of files stands for a disk that fills up in the middle."""
    artifacts.write_file(str(tmp_path / "file"), b"old")
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            artifacts.write_file(str(tmp_path / "file"), b"new" * 1000)
        except OSError as error:
            os._exit(0 if error.errno == errno.EFBIG else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


def test_files_go_into_folders_that_are_not_there_yet_and_can_be_deleted(folder: str) -> None:
    for data in (b"first", b"second", b""):
        artifacts.write_file(f"{folder}/a/b/file", data)
        assert artifacts.read_file(f"{folder}/a/b/file") == data
    artifacts.delete_file(f"{folder}/a/b/file")
    with pytest.raises(FileNotFoundError):
        artifacts.read_file(f"{folder}/a/b/file")


@pytest.fixture(autouse=True, scope="module")
def _empty_memory() -> Iterator[None]:
    yield
    fs = fsspec.filesystem("memory")
    for place in ("artifacts", "artifacts-any", "digest", "records"):
        if fs.exists(f"/{place}"):
            fs.rm(f"/{place}", recursive=True)
