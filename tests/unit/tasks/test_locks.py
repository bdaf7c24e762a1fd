"""Who waits for another process is told for which."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tasks.running import locks, observing


def test_who_waits_long_is_told_for_whom(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RACRO_HOME", str(tmp_path))
    monkeypatch.setattr(locks, "PATIENCE", 0.05)
    told, lines = threading.Event(), list[str]()

    def hear(line: str) -> None:
        lines.append(line)
        told.set()

    def wait() -> None:
        with locks.in_turn("same"):
            pass

    with locks.in_turn("other"), observing.observed(lambda *_: None, lambda _: None, hear):
        with locks.in_turn("same"):
            waiting = threading.Thread(target=wait)
            waiting.start()
            assert told.wait(60)
        waiting.join(60)
    [line] = lines
    assert line.startswith(f"waiting for process {os.getpid()}, which makes what this run needs too")
