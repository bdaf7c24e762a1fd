"""Checks of `racro doctor`: cores, memory, the root, the servers."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sqlite3
import tempfile
import urllib.request
from pathlib import Path

from flows.cli.checks.finding import GIB, Finding
from flows.station import tracking
from flows.station.local import NoServer
from racro.home import home

ANSWER_DEADLINE = 5.0
"""Seconds for a server or a storage to answer."""


def cores() -> Finding:
    """CPU cores that this process may use."""
    usable, there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0, os.cpu_count() or 1
    return Finding("ok", f"{usable or there} of {there}, {platform.machine()}")


def memory() -> Finding:
    """Main memory."""
    import psutil  # type: ignore[import-untyped]

    state = psutil.virtual_memory()
    found = f"{state.total / GIB:.0f} GiB, {state.available / GIB:.0f} GiB free"
    if state.available < 2 * GIB:
        return Finding("problem", found, "end something else: torch and a tiny model want 2 GiB")
    return Finding("ok", found)


def shared_memory() -> Finding:
    """/dev/shm, through which processes that share one model talk."""
    place = Path("/dev/shm")
    if not place.is_dir():
        return Finding("note", "no /dev/shm", "engines on several GPUs want it")
    size = shutil.disk_usage(place)
    found = f"/dev/shm {size.total / GIB:.1f} GiB, {size.free / GIB:.1f} GiB free"
    if size.free < GIB:
        return Finding("note", found, "engines on several GPUs want more: docker run --shm-size=8g, or --ipc=host")
    return Finding("ok", found)


def writable(root: str) -> Finding:
    """Can runs and artifacts be written?"""
    from racro.storage.files import is_local, opened, probe

    remedy = "choose another --root, or set the credentials of this one"
    try:
        fs, path = opened(root)
        if is_local(fs):
            place = next(folder for folder in (Path(path), *Path(path).parents) if folder.exists())
            with tempfile.TemporaryFile(dir=place):
                pass
            return Finding("ok", f"{root}, {shutil.disk_usage(place).free / GIB:.0f} GiB free")
        probe(root, ANSWER_DEADLINE)
        return Finding("ok", root)
    except Exception as error:  # of any storage there is
        reason = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
        return Finding("problem", f"{root} cannot be written to ({' '.join(reason.split())[:200]})", remedy)


def prefect() -> Finding:
    """The server that runs are shown in."""
    url = os.environ.get("PREFECT_API_URL")
    if url is None:
        return Finding("ok", "PREFECT_API_URL is not set: every command starts a server of its own")
    return _answers(f"{url.rstrip('/')}/health", "PREFECT_API_URL", url)


def mlflow() -> Finding:
    """The store that runs are recorded in."""
    default = f"sqlite:///{home().resolve() / 'mlflow' / 'mlflow.db'}"
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip() or default
    if uri.startswith(("http://", "https://")):
        return _answers(f"{uri.rstrip('/')}/health", "MLFLOW_TRACKING_URI", uri)
    if not uri.startswith("sqlite:///"):
        try:
            tracking.require()
        except NoServer as error:
            found, _, remedy = str(error).partition("; ")
            return Finding("problem", found, remedy)
        return Finding("note", f"{tracking.plain(uri)} is not looked into")
    file = Path(uri.removeprefix("sqlite:///"))
    if not file.exists():
        return Finding("ok", f"{uri}, made by the first run")
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=ANSWER_DEADLINE)) as database:
            [runs] = database.execute("SELECT count(*) FROM runs").fetchone()
    except sqlite3.Error as error:
        return Finding("problem", f"{uri}: {error}", "move the file away; the next run makes a new one")
    return Finding("ok", f"{uri}, {runs} run{'s' * (runs != 1)}")


def _answers(health: str, variable: str, url: str) -> Finding:
    """Does a server answer its health check?"""
    try:
        with urllib.request.urlopen(health, timeout=ANSWER_DEADLINE) as answer:
            return Finding("ok", f"{url} answers ({answer.status})")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Finding("problem", f"{url} does not answer ({reason})", f"start that server, or unset {variable}")
