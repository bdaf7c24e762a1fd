"""Where rows come from: a parquet, jsonl or json file, a folder of parquet files as the hub lays them out, a
`save_to_disk` folder, or a Hugging Face dataset.

Yields plain dicts in small batches, so that a table that contains its images is never in memory as a whole. Knows
nothing of questions and answers (`racro.data.problems` and `racro.benchmarks` do).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from racro.data.cells import Unreadable
from racro.data.strict_json import parse
from racro.errors import BadInput
from racro.identity import digest
from racro.storage.files import opened

Row = dict[str, Any]
BATCH = 32
"""Rows that are in memory at a time."""
PEEK = 100
"""Rows of a jsonl file that are read to learn its columns; rows may leave out keys that are null."""
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

    def require_single(self, columns: Sequence[str]) -> None:
        """Raises BadSource where two columns have the same name: no one can say which is meant."""
        for name in columns:
            if self.columns.count(name) > 1:
                raise BadSource(f"{self.name} has {self.columns.count(name)} columns {name!r}; rename all but one")


def open_source(source: str, split: str | None, configs: Sequence[str] = ()) -> Source:
    """Open a source; `split` and `configs` (all of them, one after the other) are for Hugging Face datasets only.

    Without a split, a dataset of the hub is the files of its repository as published, images.zip included. Raises
    BadSource.
    """
    location = source.rstrip("/")
    if location.endswith((".parquet", ".jsonl", ".json")):
        reader = {"parquet": _parquet, "jsonl": _jsonl, "json": _json}[location.rsplit(".", 1)[1]]
        fs, path = _filesystem(location)
        with _reading(source):
            columns, rows = reader(fs, path, source)
        return Source(source, _uri(fs, fs._parent(path)), columns, rows)
    fs, path = _filesystem(location)
    # The splits of a saved dataset are themselves saved folders, and may bear the name of a configuration.
    folders = [path] if _is_saved(fs, path) else [f"{path}/{config}" for config in configs]
    if saved := [folder for folder in folders if _is_saved(fs, folder)]:
        return _dataset(source, [_from_disk(_uri(fs, folder), split) for folder in saved], _uri(fs, path))
    if fs.isfile(path):
        raise BadSource(f"{source} is no .parquet, .jsonl or .json file; name one, or a folder of parquet files")
    if fs.exists(path):
        with _reading(source):
            columns, rows = _parquet_folder(fs, path, source, split)
        return Source(source, _uri(fs, path), columns, rows)
    if not _HUB_ID.fullmatch(location):
        raise BadSource(f"{source}: no such file or folder; correct problems.source")
    if split is None:
        return replace(open_source(_snapshot(source), None), name=source)
    return _dataset(source, [_from_hub(source, split, config) for config in configs or (None,)], None)


def stamp(source: str) -> str:
    """Digest that changes when the files of a source change (sizes, times, ETags); reads none of them.

    Part of the identity of a prepared table: with the path alone the cache would serve yesterday's rows. For a dataset
    of the hub it is the digest of its id. Raises BadSource.
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
        return opened(location)
    except (ValueError, ImportError) as error:
        raise BadSource(f"{location}: {error}; correct problems.source") from error


def _uri(fs: Any, path: str) -> str:
    return path if isinstance(fs, LocalFileSystem) else fs.unstrip_protocol(path)


@contextmanager
def _reading(source: str) -> Iterator[None]:
    """Turn a user's mistake into BadSource; errors of a storage that is down pass unchanged, since a retry can help."""
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
                yield from _rows(batch)

    with fs.open(path, "rb") as stream:
        return tuple(pq.ParquetFile(stream).schema_arrow.names), rows


def _rows(batch: Any) -> list[Row]:
    """The rows of a batch; a cell that Arrow cannot turn into a Python value costs its row, not the table."""
    try:
        return batch.to_pylist()
    except (ValueError, OverflowError):  # broken UTF-8, a date beyond the year 9999, a struct with two equal fields
        return [
            {name: _value(column[i]) for name, column in zip(batch.schema.names, batch.columns, strict=True)}
            for i in range(batch.num_rows)
        ]


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return Unreadable()


_SHARD = re.compile(r"(?P<split>.+?)(-\d+-of-\d+(-[0-9a-f]+)?)?\.parquet")


def _parquet_folder(fs: Any, path: str, source: str, split: str | None) -> Opened:
    """The files of a split, in any folder below: `split.parquet` or `split-00000-of-00002.parquet`; or all."""
    files = sorted(file for file in fs.find(path) if file.endswith(".parquet"))
    splits = {file: _SHARD.fullmatch(file.rpartition("/")[2])["split"] for file in files}  # type: ignore[index]
    opened = [_parquet(fs, file, file) for file in files if split in (None, splits[file])]
    if not opened:
        there = f"it has the splits {', '.join(sorted(set(splits.values())))}" if files else "it holds no parquet file"
        raise BadSource(
            f"{source} has no split {split!r}, {there}; name a .parquet, .jsonl or .json file, a folder of "
            "Dataset.save_to_disk, or another problems.split"
        )
    return opened[0][0], lambda columns: (row for _, rows in opened for row in rows(columns))


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
        row = parse(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadSource(f"{where} is not JSON ({error}); fetch or write the file again") from error
    if not isinstance(row, dict):
        raise BadSource(f"{where} is no JSON object; one object per line is wanted")
    return row


def _json(fs: Any, path: str, source: str) -> Opened:
    with fs.open(path, "rb") as stream:
        try:
            content = parse(stream.read().decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise BadSource(f"{source} is not a readable json file ({error}); fetch or write it again") from error
    if isinstance(content, dict) and content and all(isinstance(row, dict) for row in content.values()):
        content = [{"id": name} | row for name, row in content.items()]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise BadSource(f"{source} is no list of JSON objects; write its rows as such a list, or as jsonl")

    def rows(columns: Sequence[str]) -> Iterator[Row]:
        return ({column: row.get(column) for column in columns} for row in content)

    return _columns(content), rows


def _columns(rows: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(column for row in rows for column in row))


# --- Hugging Face -----------------------------------------------------------------------------------------------------


def _is_saved(fs: Any, folder: str) -> bool:
    return fs.exists(f"{folder}/dataset_info.json") or fs.exists(f"{folder}/dataset_dict.json")


def _from_disk(source: str, split: str | None) -> Any:
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


def _from_hub(source: str, split: str, config: str | None) -> Any:
    import datasets

    with _fetching(source):
        return datasets.load_dataset(source, config, split=split)


def _snapshot(source: str) -> str:
    """Folder of a dataset's files; they are fetched once."""
    import huggingface_hub

    with _fetching(source):
        return huggingface_hub.snapshot_download(
            source, repo_type="dataset", allow_patterns=["*.parquet", "images.zip", "images/*"]
        )


@contextmanager
def _fetching(source: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise BadSource(
            f"{source} is no file or folder here, and as a Hugging Face dataset it cannot be had "
            f"({str(error).splitlines()[0]}); correct problems.source, or download it where there is a network"
        ) from error


def _dataset(source: str, datasets: Sequence[Any], base: str | None) -> Source:
    def rows(columns: Sequence[str]) -> Iterator[Row]:
        for dataset in datasets:
            # The arrow format yields images as they are stored (bytes and path), also inside lists, and decodes none.
            stored = dataset.select_columns(list(columns)).with_format("arrow")
            for batch in stored.iter(batch_size=BATCH):
                yield from _rows(batch)

    return Source(source, base, tuple(datasets[0].column_names), rows)
