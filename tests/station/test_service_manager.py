"""What `racro up` keeps alive: who ends is started again, not too often; who hangs is ended."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.station.service_manager import Kept
from tests.support.eventually import eventually
from tests.support.ports import reserve


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Kept]:
    """A real server of the standard library, as the service manager keeps Prefect's and MLflow's."""
    port = reserve()
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(tmp_path), str(port)]
    kept = Kept("a server", command, {}, tmp_path / "log", f"http://127.0.0.1:{port}/")
    kept.start()
    assert eventually(kept.answers)
    yield kept
    if kept.child is not None:
        kept.child.stop(0)


def pid(kept: Kept) -> int:
    assert kept.child is not None
    return kept.child.pid


def test_a_server_that_answers_is_left_alone(server: Kept) -> None:
    before = pid(server)
    server.end_if_silent(0.0)
    assert not server.restart_if_ended()
    assert pid(server) == before


@pytest.mark.parametrize("fault", [signal.SIGSTOP, signal.SIGKILL])
def test_a_server_that_hangs_or_died_is_started_again(server: Kept, fault: signal.Signals) -> None:
    server.health_timeout = 0.5
    before = pid(server)
    os.kill(before, fault)

    def again() -> bool:
        server.end_if_silent(1.0)
        return server.restart_if_ended()

    assert eventually(again)
    assert pid(server) != before
    assert eventually(server.answers)


def test_who_ends_at_once_is_started_ever_more_rarely(tmp_path: Path) -> None:
    kept = Kept("nothing", [sys.executable, "-c", ""], {}, tmp_path / "log")
    pauses = []
    for _ in range(2):
        kept.start()
        assert kept.child is not None and kept.child.wait(120) == 0
        assert not kept.restart_if_ended()
        pauses.append(kept.pause)
    assert pauses == [2.0, 4.0]
