"""Servers that others run: used when they answer, one line when they do not."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import importlib.metadata
import importlib.util
import os
import shutil
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from flows.cli import running
from flows.station import local, tracking
from flows.station.local import NoServer, prefect_server
from racro.config import loading
from racro.processes import child
from racro.processes.child import free_port, reserved_port
from tests.support.eventually import eventually


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers /STATUS/KIND/health with that status, in HTML, or in JSON."""

    def do_GET(self) -> None:
        _, status, kind, *_ = self.path.split("/")
        self.send_response(int(status))
        self.send_header("content-type", "text/html" if kind == "html" else "application/json")
        self.end_headers()
        self.wfile.write(b"{}" if kind == "object" else b"true")

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class Banner(socketserver.BaseRequestHandler):
    """Says what it is at once, in two lines, and it is no server of HTTP."""

    def handle(self) -> None:
        self.request.sendall(b"SSH-2.0-OpenSSH_9.9\r\nbye\r\n")


@pytest.fixture(scope="module")
def stranger() -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Banner) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class Slow(socketserver.BaseRequestHandler):
    """Begins with an answer of HTTP that never ends, a letter of a header at a time."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            self.request.sendall(b"HTTP/1.1 200 OK\r\n")
            while True:
                time.sleep(0.1)
                self.request.sendall(b"x")


class Halfway(socketserver.BaseRequestHandler):
    """Sends all headers, and nothing of what they announce."""

    def handle(self) -> None:
        self.request.recv(1024)
        self.request.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n")
        self.request.recv(1024)  # until the other side has enough


@pytest.fixture(params=[Slow, Halfway])
def unending(request: pytest.FixtureRequest) -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), request.param) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "AWAY_DEADLINE", 0.5)


@pytest.mark.parametrize("answer", ["200/json", "401/json", "403/html"])
def test_a_server_that_answers_is_used(
    address: str, answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"{address}/{answer}")
    with prefect_server(tmp_path) as url:
        assert url == f"{address}/{answer}"
    assert not (tmp_path / "prefect").exists(), "nothing was started"


@pytest.mark.parametrize(
    "answer",
    ["404/json", "500/json", "200/html", "200/object", "dead", "silent", "stranger", "htp://x/api", "127.0.0.1/api"],
)
def test_anything_else_there_is_one_line(
    address: str, stranger: str, answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        named = {
            "stranger": f"{stranger}/api",
            "dead": f"http://127.0.0.1:{free_port()}/api",
            "silent": f"http://127.0.0.1:{silent.getsockname()[1]}/api",
        }
        url = named.get(answer, answer if "/api" in answer else f"{address}/{answer}")
        monkeypatch.setenv("PREFECT_API_URL", url)
        with pytest.raises(NoServer) as refused, prefect_server(tmp_path):
            pass
    assert str(refused.value).startswith(f"PREFECT_API_URL: {url} is no Prefect server that can be used (")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "answer",
    [
        "200/json",
        "404/html",
        "401/json",
        "sqlite:///x.db",
        "databricks",
        "databricks://profile",
        "postgresql:///runs",
        "",
    ],
)
def test_a_tracking_server_must_only_answer(address: str, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{address}/{answer}" if answer[:1].isdigit() else answer)
    tracking.require()


@pytest.mark.parametrize("kind", ["500/json", "dead", "stranger", "postgresql", "mysql+pymysql"])
def test_a_tracking_server_that_is_away_is_one_line(
    address: str, stranger: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = f"127.0.0.1:{free_port()}"
    where = {"500/json": f"{address}/{kind}", "stranger": stranger, "dead": f"http://{dead}"}
    scheme, _, host = where.get(kind, f"{kind}://{dead}").partition("://")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://user:secret@{host}")
    with pytest.raises(NoServer) as refused:
        tracking.require()
    assert str(refused.value).startswith(f"MLFLOW_TRACKING_URI: {scheme}://{host} does not answer (")
    assert "\n" not in str(refused.value) and "secret" not in str(refused.value)


def test_a_prefect_server_without_its_database_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unready(Answers):
        """As Prefect's server while its database is away."""

        def do_GET(self) -> None:
            self.path = "/200/json" if self.path == "/api/health" else "/503/json"
            super().do_GET()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Unready) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{server.server_address[1]}/api")
        with pytest.raises(NoServer, match=r"/api is no Prefect server that can be used \(it answers 503\)"):
            prefect_server(tmp_path).__enter__()
        server.shutdown()


def test_an_answer_that_does_not_end_is_none(unending: str) -> None:
    with pytest.raises(NoServer, match=r"^here: (no answer within 1 s|timed out)$"):
        local.first_answer(f"http://{unending}", "here: {}")


def test_a_database_that_takes_connections_and_is_mute_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        where = f"127.0.0.1:{mute.getsockname()[1]}/runs"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://user:secret@{where}")
        with pytest.raises(NoServer) as refused:
            tracking.require()
    assert str(refused.value).startswith(f"MLFLOW_TRACKING_URI: postgresql://{where} does not answer (no answer within")


@pytest.mark.parametrize(
    "uri",
    ["ftp://u:secret@host/x", "htp://x", "s3://bucket", "file:relative", "./mlruns", "/a/b", "postgresql://h:x/d"],
)
def test_an_address_that_mlflow_cannot_use_is_refused_without_mlflow(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose import takes seconds. With a package that adds such stores it is not."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(NoServer, match=r"^MLFLOW_TRACKING_URI: .* cannot be used \(.*\); name a database, ") as refused:
        tracking.require()
    assert "secret" not in str(refused.value)
    if uri.startswith("s3"):
        plugin = importlib.metadata.EntryPoint("s3", "package:store", tracking.PLUGINS)
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [plugin] * (group == tracking.PLUGINS))
        tracking.require()


@pytest.mark.parametrize("blank", ["", "  "])
def test_an_empty_address_is_none(blank: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow would take the working directory."""
    monkeypatch.setattr(os, "environ", {**os.environ, "MLFLOW_TRACKING_URI": blank})
    local.settle(tmp_path)
    assert os.environ["MLFLOW_TRACKING_URI"].startswith(f"sqlite:///{tmp_path}")


def test_a_place_that_cannot_hold_our_state_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(local.NoHome, match=r"file/\.racro: .*; start racro in a folder .* RACRO_HOME$"):
        local.settle(tmp_path / "file" / ".racro")


def test_a_port_that_is_reserved_is_for_its_server_alone() -> None:
    """On a busy machine another program's server took the port before Prefect's could."""
    with reserved_port() as port:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        others = [free_port() for _ in range(1000)]
        assert port not in others

        async def serve() -> bytes:
            async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(b"here")
                writer.close()

            async with await asyncio.start_server(answer, "127.0.0.1", port):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                said = await reader.read()
                writer.close()
                return said

        assert asyncio.run(serve()) == b"here"


@pytest.mark.parametrize("killed", [True, False])
def test_a_server_that_ends_under_its_user_is_named(killed: bool, tmp_path: Path) -> None:
    port = free_port()
    command = child.python("http.server", str(port), "--bind", "127.0.0.1")
    serving = local._serving("The server", command, {}, tmp_path / "log", f"http://127.0.0.1:{port}/")
    wanted, line = (local.ServerFailed, "goes on") if killed else (ConnectionError, "refused")
    with pytest.raises(wanted, match=line), serving:
        family = psutil.Process().children(recursive=True)
        [server] = [one for one in family if one.cmdline()[1:4] == command[1:4] and str(port) in one.cmdline()]
        if killed:
            supervisor = server.parent()
            server.kill()
            assert supervisor is not None and eventually(lambda: not _runs(supervisor))
        raise ConnectionRefusedError("refused")


@pytest.mark.parametrize("when", ["at its start", "later"])
def test_a_full_disk_under_a_server_is_called_so(when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server's clients say is that it answers 500, and its log ends where the disk did."""
    port = free_port()
    command = child.python("http.server", str(port), "--bind", "127.0.0.1" if when == "later" else "nowhere.invalid")
    serving = local._serving("The server", command, {}, tmp_path / "log", f"http://127.0.0.1:{port}/")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    with pytest.raises(OSError, match="No space left on device") as full, serving:
        raise RuntimeError("the server answers 500")
    assert full.value.filename == str(tmp_path)


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_while_a_server_starts_one_thing_after_the_other_is_done_until_it_answers(tmp_path: Path) -> None:
    port = free_port()
    go = tmp_path / "go"
    done: list[int] = []
    command = [sys.executable, str(tmp_path / "slow.py"), str(port), "--bind", "127.0.0.1"]
    (tmp_path / "slow.py").write_text(
        f"import os, runpy, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.05)\n"
        "runpy.run_module('http.server', run_name='__main__')"
    )

    def imported(number: int) -> None:
        done.append(number)
        if number == 3:
            go.touch()
            assert eventually(lambda: _answers(port))

    works = [partial(imported, number) for number in range(100)]
    with local._serving("It", command, {}, tmp_path / "log", f"http://127.0.0.1:{port}/", waiting=works):
        assert done == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("recipe", "overrides", "trains", "here"),
    [
        ("embedded", [], True, [*running.ENGINE, *running.TRAINER]),
        ("embedded", [], False, [*running.ENGINE]),
        ("embedded", ["runtime.trainer={processes: 2, shard: ddp}"], True, [*running.ENGINE]),
        ("embedded", ["runtime.captioner.worker=true", "runtime.reasoner.worker=true"], False, []),
        ("racro-7b", [], False, []),
    ],
)
def test_a_command_loads_what_it_computes_with_itself(
    recipe: str, overrides: list[str], trains: bool, here: list[str]
) -> None:
    assert list(running.libraries(loading.load(recipe, overrides), trains)) == here
    assert all(importlib.util.find_spec(name) for name in here)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
