"""Servers that are not there, or whose ports others have: one line, soon."""

from __future__ import annotations

import errno
import http.server
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.recording import store
from tasks.recording.store import NoStore
from tests.commands.test_cli import racro
from tests.support.ports import reserve


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


class Agrees(http.server.BaseHTTPRequestHandler):
    """Answers whatever it is asked with an empty object."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Agrees) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("kind", ["dead", "silent", "stranger", "folder", "unknown", "file", "no file"])
def test_a_tracking_store_that_cannot_be_used_is_one_line_within_half_a_minute(
    kind: str, silent: str, stranger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store, "DEADLINE", 4.0)
    uri = {
        "dead": f"http://user:secret@127.0.0.1:{reserve()}",
        "silent": silent,
        "stranger": stranger,
        "folder": "./mlruns",
        "unknown": "nonsense://x",
        "file": "sqlite:////proc/mlflow.db",
        "no file": f"sqlite:///{tmp_path}/taken/mlflow.db",
    }[kind]
    monkeypatch.setattr(store, "get_tracking_uri", lambda: uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    (tmp_path / "taken").touch()
    before = threading.active_count()
    started = time.monotonic()
    with pytest.raises(NoStore, match=r"^MLFLOW_TRACKING_URI: ") as refused:
        store.client()
    assert "\n" not in str(refused.value) and "secret" not in str(refused.value)
    assert time.monotonic() - started < 30 and threading.active_count() <= before + 1


def test_a_full_disk_under_the_tracking_store_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    monkeypatch.setattr(store, "get_tracking_uri", lambda: uri)

    def full(_: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "mlflow")

    monkeypatch.setattr(store, "_look_up", full)
    with pytest.raises(NoStore) as refused:
        store.client()
    assert str(refused.value) == f"MLFLOW_TRACKING_URI: {uri}: No space left on device; make room"


@pytest.mark.parametrize("option", ["--prefect-port", "--mlflow-port"])
def test_the_ui_takes_no_port_that_another_program_has(option: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"--prefect-port": reserve(), "--mlflow-port": reserve(), option: port}
        done = racro(tmp_path, "ui", *(str(part) for pair in ports.items() for part in pair))
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"racro: {option} {port}: is taken by another program on 127.0.0.1; stop that program, or choose another port\n"
    )


@pytest.mark.parametrize("command", ["ui", "up"])
def test_two_servers_share_no_port(command: str, tmp_path: Path) -> None:
    port = reserve()
    done = racro(tmp_path, command, "--prefect-port", str(port), "--mlflow-port", str(port))
    said = f"racro: --prefect-port and --mlflow-port are both {port}; each server needs a port of its own\n"
    assert (done.code, done.out, done.err) == (2, "", said)
