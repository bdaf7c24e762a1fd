"""Where rows come from: a parquet, jsonl or json file, a `save_to_disk` folder, or a Hugging Face dataset.

Yields plain dicts in small batches, so that a table with its images inside never stands in memory whole. Knows nothing
of questions and answers; that is `racro.problems`, its only caller.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from racro.errors import BadInput
from racro.identity import digest

Row = dict[str, Any]
BATCH = 32
"""Rows that are in memory at a time."""
PEEK = 100
"""Rows of a jsonl file that are looked at to learn its columns; a key that is null may be left out of a row."""

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


class BadSource(BadInput):
    """A data source that is missing, corrupt, or not what the recipe takes it for. Says what to do about it."""


@dataclass(frozen=True)
class Source:
    """An opened source."""

    name: str
    """As the recipe names it."""
    base: str | None
    """Folder that relative image paths start from; None for a dataset of the hub."""
    columns: tuple[str, ...]
    rows: Callable[[Sequence[str]], Iterator[Row]]
    """The rows in order, reduced to some columns; may be called again."""


def open_source(source: str, split: str) -> Source:
    """Open a source; `split` matters to Hugging Face datasets only. Raises BadSource."""
    location = source.rstrip("/")
    if location.endswith((".parquet", ".jsonl", ".json")):
        reader = {"parquet": _parquet, "jsonl": _jsonl, "json": _json}[location.rsplit(".", 1)[1]]
        fs, path = _filesystem(location)
        with _reading(source):
            columns, rows = reader(fs, path, source)
        return Source(source, _uri(fs, fs._parent(path)), columns, rows)
    fs, path = _filesystem(location)
    if fs.exists(f"{path}/dataset_info.json") or fs.exists(f"{path}/dataset_dict.json"):
        return _dataset(source, _from_disk(source, split), _uri(fs, path))
    if fs.exists(path):
        raise BadSource(f"{source} is no .parquet, .jsonl or .json file and no folder of Dataset.save_to_disk")
    if not _HUB_ID.fullmatch(location):
        raise BadSource(f"{source}: no such file or folder; correct problems.source")
    return _dataset(source, _from_hub(source, split), None)


def stamp(source: str) -> str:
    """Digest that changes when the files of a source do (sizes, times, ETags); reads none of them. Raises BadSource.

    Belongs in the identity of a prepared table: its path alone would serve yesterday's rows. A dataset of the hub is
    its id.
    """
    fs, path = _filesystem(source.rstrip("/"))
    if not fs.exists(path):
        if _HUB_ID.fullmatch(source) and not source.endswith((".parquet", ".jsonl", ".json")):
            return digest(source)
        raise BadSource(f"{source}: no such file or folder; correct problems.source")
    files = sorted(fs.find(path))
    return digest([[file.removeprefix(path), str(fs.checksum(file))] for file in files])


def _filesystem(location: str) -> tuple[Any, str]:
    try:
        return fsspec.core.url_to_fs(location)
    except (ValueError, ImportError) as error:
        raise BadSource(f"{location}: {error}; correct problems.source") from error


def _uri(fs: Any, path: str) -> str:
    return path if isinstance(fs, LocalFileSystem) else fs.unstrip_protocol(path)


@contextmanager
def _reading(source: str) -> Iterator[None]:
    """Tell a user's mistake from a storage that is down: the first becomes BadSource, the second passes (and heals)."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise BadSource(f"{source}: no such file; correct problems.source") from error
    except PermissionError as error:
        raise BadSource(f"{source} may not be read (permission denied); grant access or correct the path") from error
    except (pa.ArrowException, UnicodeDecodeError, json.JSONDecodeError) as error:
        suffix = source.rsplit(".", 1)[-1]
        first_line = str(error).splitlines()[0]
        raise BadSource(f"{source} is not a readable {suffix} file ({first_line}); fetch or write it again") from error
    except OSError as error:
        # pyarrow reports broken pages as a plain OSError, which a local disk that works does not raise.
        if "://" in source and not source.startswith("file://"):
            raise
        raise BadSource(f"{source} is corrupt ({str(error).splitlines()[0]}); fetch or write it again") from error


# --- files ------------------------------------------------------------------------------------------------------------

Opened = tuple[tuple[str, ...], Callable[[Sequence[str]], Iterator[Row]]]


def _parquet(fs: Any, path: str, source: str) -> Opened:
    def rows(columns: Sequence[str]) -> Iterator[Row]:
        with _reading(source), fs.open(path, "rb") as stream:
            # Not the dataset API, and no threads: they abort the interpreter at exit now and then (pyarrow 25.0.1).
            # The buffer makes pyarrow stream a column's pages instead of loading all of a row group.
            file = pq.ParquetFile(stream, buffer_size=1 << 20, pre_buffer=False)
            for batch in file.iter_batches(batch_size=BATCH, columns=list(columns), use_threads=False):
                yield from batch.to_pylist()

    with fs.open(path, "rb") as stream:
        return tuple(pq.ParquetFile(stream).schema_arrow.names), rows


def _jsonl(fs: Any, path: str, source: str) -> Opened:
    def rows(columns: Sequence[str]) -> Iterator[Row]:
        with _reading(source), fs.open(path, "rb") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    row = _object(line, f"{source}, line {number}")
                    yield {column: row.get(column) for column in columns}

    with fs.open(path, "rb") as stream:
        lines = islice(((n, line) for n, line in enumerate(stream, 1) if line.strip()), PEEK)
        return _columns(_object(line, f"{source}, line {n}") for n, line in lines), rows


def _object(line: bytes, where: str) -> Row:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadSource(f"{where} is not JSON ({error}); fetch or write the file again") from error
    if not isinstance(row, dict):
        raise BadSource(f"{where} is no JSON object; one object per line is wanted")
    return row


def _json(fs: Any, path: str, source: str) -> Opened:
    with fs.open(path, "rb") as stream:
        content = json.loads(stream.read().decode("utf-8-sig"))
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise BadSource(f"{source} is no list of JSON objects; write its rows as such a list, or as jsonl")

    def rows(columns: Sequence[str]) -> Iterator[Row]:
        return ({column: row.get(column) for column in columns} for row in content)

    return _columns(content), rows


def _columns(rows: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(column for row in rows for column in row))


# --- Hugging Face -----------------------------------------------------------------------------------------------------


def _from_disk(source: str, split: str) -> Any:
    import datasets  # late: it takes seconds to load, and flows import this module to show their forms

    try:
        loaded = datasets.load_from_disk(source)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise BadSource(f"{source} is a broken save_to_disk folder ({error}); write it again") from error
    if not isinstance(loaded, datasets.DatasetDict):
        return loaded
    if split not in loaded:
        raise BadSource(f"{source} has no split {split!r}, it has {', '.join(loaded)}; correct problems.split")
    return loaded[split]


def _from_hub(source: str, split: str) -> Any:
    import datasets

    try:
        return datasets.load_dataset(source, split=split)
    except (OSError, ValueError) as error:
        raise BadSource(
            f"{source} is no file or folder here, and as a Hugging Face dataset it cannot be had "
            f"({str(error).splitlines()[0]}); correct problems.source, or download it where there is a network"
        ) from error


def _dataset(source: str, dataset: Any, base: str | None) -> Source:
    def rows(columns: Sequence[str]) -> Iterator[Row]:
        # The arrow format yields images as they are stored (bytes and path), also inside lists, and decodes none.
        stored = dataset.select_columns(list(columns)).with_format("arrow")
        for batch in stored.iter(batch_size=BATCH):
            yield from batch.to_pylist()

    return Source(source, base, tuple(dataset.column_names), rows)
