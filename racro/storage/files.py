"""Where files are: any fsspec URI, opened with deadlines; requests are retried after transient errors.

Not here: what is in the files (`racro.storage.artifacts`), what of them is kept on this machine
(`racro.storage.downloads`). Everything under a root is read and written through `opened`, and through `with_retries`
where hours of work depend on it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from racro.errors import BadInput

T = TypeVar("T")


class Unwritable(BadInput):
    """A place that was given for files and takes none."""


OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {
        "use_listings_cache": False,  # other machines write too, and a listing of a minute ago would hide it
        "config_kwargs": {"connect_timeout": 5, "read_timeout": 20},  # seconds; how often: AWS_MAX_ATTEMPTS
    }
}
"""Of a protocol's file system. Keys, endpoint and region come from the usual environment."""

PAUSES = (0.5, 2.0, 5.0, 10.0, 20.0, 30.0)
"""Seconds between retries; the storage client's own retries, of seconds each, come on top."""

FULL = 2**20
"""Bytes free on a disk that is as good as full."""

NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems without hard links say."""

CUT_OFF = ("NoSuchUpload", "IncompleteBody", "BadDigest", "RequestTimeout", "XAmzContentSHA256Mismatch")
"""S3's words for a transfer that broke half way. NoSuchUpload: an upload was completed, and the answer to it lost."""

logger = logging.getLogger(__name__)


def opened(uri: str) -> tuple[Any, str]:
    """The file system of a URI or local path, and the path on it."""
    fs, path = fsspec.core.url_to_fs(uri, **OPTIONS.get(uri.partition("://")[0], {}))
    return fs, path


def is_local(fs: Any) -> bool:
    """Does the file system lie on this machine's disks?"""
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def with_retries(action: Callable[[], T], pauses: Sequence[float] | None = None) -> T:
    """Run `action`; after transient errors again, after each of `pauses` (s). None: PAUSES, a minute in all."""
    for pause in PAUSES if pauses is None else pauses:
        try:
            return action()
        except Exception as error:
            if not is_transient(error):
                raise
            logger.warning("transient storage error, retried in %g s: %s", pause, " ".join(str(error).split())[:200])
        time.sleep(pause)
    return action()


def is_transient(error: BaseException) -> bool:
    """May the same request succeed a moment later? True for errors of the connection, and for S3's own troubles.

    s3fs passes on errors of botocore and aiohttp, which are not Python's, and makes OSErrors of S3's own.
    """
    if isinstance(error, (ConnectionError, TimeoutError, InterruptedError)):
        return True
    if "s3fs" in sys.modules:  # which loads them both; others load one of them
        botocore, aiohttp = sys.modules["botocore"], sys.modules["aiohttp"]
        passing = (
            botocore.exceptions.ConnectionError,
            botocore.exceptions.HTTPClientError,
            botocore.parsers.ResponseParserError,  # of an answer that was cut off
            aiohttp.ClientError,
        )
        if isinstance(error, passing):
            return True
        said = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
        if isinstance(said, dict):
            status = said.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return status >= 500 or status == 429 or said.get("Error", {}).get("Code") in CUT_OFF
    return False


def listing(folder: str) -> list[str]:
    """URIs of the files directly in a folder, sorted; empty where no such folder is."""
    fs, path = opened(folder)
    try:
        found = with_retries(lambda: fs.ls(path, detail=True))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(fs.unstrip_protocol(entry["name"]) for entry in found if entry["type"] == "file")


def exists(uri: str) -> bool:
    """Is there such a file or folder?"""
    fs, path = opened(uri)
    return with_retries(lambda: bool(fs.exists(path)))


def remove_folder(folder: str) -> None:
    """Remove a folder with all its files; nothing happens where it does not exist."""
    fs, path = opened(folder)
    with contextlib.suppress(FileNotFoundError):
        with_retries(lambda: fs.rm(path, recursive=True))


@contextlib.contextmanager
def full_disk_as_such(folder: str) -> Iterator[None]:
    """Libraries have words of their own for a full disk; with this it is the OSError that Python has for it."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) or shutil.disk_usage(folder).free > FULL:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder) from error


def folder_digest(folder: Path) -> str:
    """Digest of the files of a local folder, with their names."""
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{file.relative_to(folder).as_posix()}:{found}\n".encode())
    return digest.hexdigest()


def probe(folder: str, seconds: float) -> None:
    """Write a file into a folder and take it away, without patience. Raises what the storage does, and TimeoutError."""
    fs, path = opened(f"{folder}/.probe-{uuid.uuid4().hex[:8]}")

    def write() -> None:
        if is_local(fs):  # object stores have no folders to make
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        fs.pipe_file(path, b"racro")
        fs.rm_file(path)

    in_time(write, seconds)


def require_writable(folder: str, option: str, seconds: float = 12.0) -> None:
    """Write a test file, before hours of work. Raises Unwritable, which names the option that gave the folder.

    `seconds`: with the start of a command, less than half a minute.
    """
    try:
        probe(folder, seconds)
    except Exception as error:  # each file system has errors of its own for what is missing, closed or out of reach
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        remedy = "check bucket, keys and endpoint (AWS_*), or " if folder.startswith("s3://") else ""
        raise Unwritable(f"{option}: cannot be written to ({reason}); {remedy}choose another place") from error


def in_time(action: Callable[[], T], seconds: float) -> T:
    """The result of `action`; TimeoutError after `seconds`, while a thread keeps working on it in the background."""
    result: Future[T] = Future()

    def act() -> None:
        try:
            result.set_result(action())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=act, daemon=True).start()
    try:
        return result.result(seconds)
    except FutureTimeout as error:
        raise TimeoutError(f"no answer within {seconds:.3g} s") from error


# --- whole files ------------------------------------------------------------------------------------------------------


def write_file(uri: str, data: bytes) -> None:
    """Write a file completely or not at all, even if the process is killed."""
    fs, path = opened(uri)
    if is_local(fs):
        with _beside(path, data) as temporary:
            os.replace(temporary, path)
    else:  # object stores show an object only after its upload is complete
        with_retries(lambda: fs.pipe_file(path, data))


REMOVALS = 10
"""How often a folder may be removed while a file is created in it."""


def create_file(uri: str, data: bytes) -> bool:
    """As `write_file`, but only if there is no such file; False if there is one with another content."""
    fs, path = opened(uri)
    if not is_local(fs):
        try:
            with_retries(lambda: fs.pipe_file(path, data, mode="create"))
            return True
        except FileExistsError:  # perhaps from an attempt of ours whose answer was lost
            with contextlib.suppress(FileNotFoundError):  # another's, which is gone by now
                return read_file(uri) == data
            return False
    for _ in range(REMOVALS):
        with contextlib.suppress(FileNotFoundError):  # another process has just removed the folder
            return _linked(path, data)
    return _linked(path, data)


def _linked(path: str, data: bytes) -> bool:
    with _beside(path, data) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            return _opened_first(path, data)
    return True


def _opened_first(path: str, data: bytes) -> bool:
    """Where there are no hard links: who opens the file first has it. Who reads it meanwhile finds it unfinished."""
    try:
        with open(path, "xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except FileExistsError:
        return False
    return True


@contextlib.contextmanager
def _beside(path: str, data: bytes) -> Iterator[str]:
    """A file with this content, on the disk, in the folder of `path`; removed at the end if it is there still."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with open(temporary, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        yield temporary
    finally:
        Path(temporary).unlink(missing_ok=True)


def read_file(uri: str) -> bytes:
    """The bytes of a file. Raises FileNotFoundError."""
    fs, path = opened(uri)
    return with_retries(lambda: fs.cat_file(path))


def delete_file(uri: str) -> None:
    """Delete an existing file."""
    fs, path = opened(uri)
    with_retries(lambda: fs.rm_file(path))
