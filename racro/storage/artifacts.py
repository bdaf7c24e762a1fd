"""Typed parquet tables on any fsspec file system (file, s3, memory): shards first, `record.json` last.

A folder with a record is complete, and verified on reading. The files are in the folder of one attempt
(`racro.storage.attempts`); the record says which. Rows are the frozen models of `racro.schema`; their Arrow schema is
derived (`racro.storage.arrow`) and stored with the data. Used by every stage; knows nothing about what rows mean.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from racro.errors import BadInput
from racro.schema import Handle, Policy, Row
from racro.storage import leases
from racro.storage.arrow import arrow_schema, differences
from racro.storage.attempts import discard, keep_only, split
from racro.storage.files import create_file, delete_file, is_local, opened, read_file, with_retries, write_file
from racro.storage.layout import PRUNED, RECORD

R = TypeVar("R", bound=Row)

RECORDS = (RECORD, PRUNED)


class BadArtifact(BadInput):
    """A file that is corrupt, incomplete, or not of the expected type. The message names the file and the remedy."""


class Pruned(BadInput):
    """An artifact that is needed, but whose files were removed to free space."""


class Shard(BaseModel):
    """One file of a table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    rows: int
    sha256: str


class Record(BaseModel):
    """What an artifact is and how it was made. If the record exists, everything it lists exists."""

    # A metric that is not finite is written as "NaN" or "Infinity", which is read back as the number that it was.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    stage: str
    identity: str
    """Digest of the stage's name, version, prompts and inputs; its beginning is the folder's name."""
    inputs: dict[str, Any]
    """The inputs behind `identity`, without the runtime."""
    code_version: str
    handle: dict[str, Any]
    """The handle without its uri, because a root may be moved or copied."""
    handle_type: str
    place: str = ""
    """Folder of the attempt whose files these are, below the record's; empty: the files are beside the record."""
    shards: tuple[Shard, ...] = ()
    metrics: dict[str, float] = {}
    """Counts and measurements of the stage, for MLflow and reports."""
    seconds: float
    """Wall time of the stage when it ran."""
    finished: float
    """When it finished, in seconds since 1970."""


# --- records ----------------------------------------------------------------------------------------------------------


def write_record(folder: str, record: Record) -> Record:
    """Declare an artifact complete. `folder`: the record's own or its attempt's.

    Returns the record that counts: another one if another attempt was first; ours is then removed. Raises Fenced if
    this run was taken for dead, and the one that makes the artifact now is not done.
    """
    attempt = folder
    folder, place = split(folder)
    record = record.model_copy(update={"place": place})
    data = record.model_dump_json(indent=1).encode()
    lease = leases.holding(folder) if place else None
    if lease is not None and not lease.commit(data.decode()):
        if (other := read_record(folder)) is None:
            lease.require()
        else:
            discard(attempt)
            return other
    if not create_file(f"{folder}/{RECORD}", data):
        other = read_record(folder)
        if other is None or not place:
            write_file(f"{folder}/{RECORD}", data)  # over one that was cut off, or that is ours to replace
        else:
            record = other
    if place:
        keep_only(folder, record.place)
    return record


def files_of(folder: str, record: Record) -> str:
    """Folder of the artifact's files; what handles name."""
    return f"{folder}/{record.place}" if record.place and not folder.endswith(record.place) else folder


def read_record(folder: str) -> Record | None:
    """The record of a folder, or of the attempt's folder that counts; None if it is missing or incomplete.

    A record whose attempt was deleted counts for nothing: deleting a bad file's folder heals. Raises BadArtifact.
    """
    record = _find_record(folder, RECORD)
    if record is not None and record.place and (record.shards or record.handle_type == Policy.__name__):
        fs, path = opened(files_of(split(folder)[0], record))
        if not with_retries(lambda: fs.exists(path)):
            return None
    return record


def known_record(folder: str) -> Record | None:
    """The record of a folder that is complete, or was complete before it was pruned; None otherwise."""
    return read_record(folder) or _find_record(folder, PRUNED)


def _find_record(folder: str, name: str) -> Record | None:
    outer, place = split(folder)
    record = _read_record(f"{outer}/{name}")
    return record if record is not None and place in ("", record.place) else None


def prune(folder: str) -> None:
    """Remove the files of a complete artifact. Results computed from it stay valid; the artifact can be made again.

    If killed half way, it leaves a folder that counts as pruned; calling it again removes the rest.
    """
    if record := read_record(folder):
        write_file(f"{folder}/{PRUNED}", record.model_dump_json(indent=1).encode())
        delete_file(f"{folder}/{RECORD}")
    fs, path = opened(folder)
    files = [file for file in with_retries(lambda: fs.find(path)) if file.rpartition("/")[2] not in RECORDS]
    if files:
        with_retries(lambda: fs.rm(files))
    if is_local(fs):
        for emptied in sorted((p for p in Path(path).rglob("*") if p.is_dir()), reverse=True):
            emptied.rmdir()


def require_files(folder: str) -> None:
    """Raises Pruned if the files of the artifact were removed."""
    if read_record(folder) is None and known_record(folder) is not None:
        stage = split(folder)[0].rpartition("/")[0]
        raise Pruned(
            f"{folder} was pruned and is needed again; delete the {PRUNED} files in {stage}/* and "
            "run again: what is missing will be made again"
        )


def _read_record(uri: str) -> Record | None:
    try:
        data = read_file(uri)
    except FileNotFoundError:
        return None
    try:
        return Record.model_validate_json(data)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            return None  # cut off in the middle, on a file system that shows incomplete files
        raise BadArtifact(f"{uri} is not a record of this version; delete the folder and run again") from error


# --- tables -----------------------------------------------------------------------------------------------------------


def write_table(folder: str, rows: Iterable[R], row_type: type[R], rows_per_shard: int = 4096) -> tuple[Shard, ...]:
    """Write rows as shards. The caller writes the record afterwards."""
    shards = []
    remaining = iter(rows)
    chunks = iter(lambda: list(islice(remaining, rows_per_shard)), [])
    for number, chunk in enumerate(chunks):
        data = parquet(chunk, row_type)
        shard = Shard(name=f"part-{number:05d}.parquet", rows=len(chunk), sha256=hashlib.sha256(data).hexdigest())
        write_file(f"{folder}/{shard.name}", data)
        shards.append(shard)
    return tuple(shards)


def parquet(rows: Iterable[R], row_type: type[R]) -> bytes:
    """Rows as one parquet file."""
    table = pa.Table.from_pylist([row.model_dump(mode="json") for row in rows], schema=arrow_schema(row_type))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def table_digest(shards: Iterable[Shard], *more: str) -> str:
    """Digest of a table's content; `more` is content beside the rows."""
    return hashlib.sha256("\n".join([*(shard.sha256 for shard in shards), *more]).encode()).hexdigest()


def read_table(handle: Handle, row_type: type[R]) -> Iterator[R]:
    """The rows of an artifact; each shard is verified. Raises BadArtifact."""
    record = read_record(handle.uri)
    if record is None:
        raise BadArtifact(f"{handle.uri} holds no {RECORD}: it was deleted or never finished; run again to make it")
    folder = files_of(handle.uri, record)
    for shard in record.shards:
        yield from read_shard(f"{folder}/{shard.name}", row_type, shard.sha256)


def read_shard(uri: str, row_type: type[R], sha256: str | None = None) -> Iterator[R]:
    """The rows of one parquet file; its schema must be that of `row_type`, its digest that of the record."""
    try:
        data = read_file(uri)
    except FileNotFoundError as error:
        raise BadArtifact(f"{uri} is missing; delete its folder and run again") from error
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise BadArtifact(f"{uri} is corrupt (its digest is not the recorded one); delete its folder and run again")
    try:
        # Not pq.read_table: its dataset threads sometimes abort the interpreter at exit (pyarrow 25.0.1).
        table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise BadArtifact(f"{uri} is not a parquet file; delete its folder and run again") from error
    if columns := ", ".join(differences(table.schema, row_type)):
        raise BadArtifact(
            f"{uri} is not a table of {row_type.__name__}: columns {columns} differ; delete its folder and run again"
        )
    for row in table.to_pylist():
        yield row_type.model_validate(row)


def to_json(value: BaseModel) -> str:
    """Indented JSON of a model, for files that people read."""
    return json.dumps(value.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
