"""What a terminal shows during a training: a line for each iteration that stays, bars that go when they are done."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from flows.cli import terminal
from flows.cli.typed import typed
from racro.curves import IterationPoint
from racro.pace import Row
from racro.summary import Score
from tasks.running import observing
from tests.support.screen import plain

POINT = IterationPoint(iteration=0, reward_mean=0.5, reward_stderr=0.01, captions=64, groups=16, informative_groups=12)
SCORE = Score(accuracy=0.479, stderr=0.011, n=2048, truthful=None, states_asked=None, leaks=None)
ROWS = (
    Row(0, 2, None, SCORE, 12.0, cached=False, left=None),
    Row(1, 2, POINT, None, 20.3, cached=False, left=32.0),
    Row(2, 2, POINT, SCORE, 0.2, cached=True, left=0.0),
)


def screen(monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=is_terminal, width=100, highlight=False, color_system=None)
    monkeypatch.setattr(terminal, "console", console)
    return console, stream


def test_lines_of_iterations_stay_and_bars_go_also_when_it_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    _, stream = screen(monkeypatch, True)
    with pytest.raises(KeyboardInterrupt), terminal.progress_bars():
        for row in ROWS:
            for tell in observing.observers:
                tell(f"caption {row.number}", 3, 8)
            for observe in observing.row_observers:
                observe(row)
        raise KeyboardInterrupt
    assert "about 32 s to go" in stream.getvalue()
    assert [line.split() for line in plain(stream.getvalue())] == [
        ["iteration", "reward", "informative", "accuracy,", "%", "seconds"],
        ["0/2", "47.9", "±", "1.1", "12.0"],
        ["1/2", "0.500", "±", "0.010", "75%", "20.3"],
        ["2/2", "0.500", "±", "0.010", "75%", "47.9", "±", "1.1", "from", "cache"],
    ]
    assert not observing.observers and not observing.row_observers


def test_elsewhere_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    _, stream = screen(monkeypatch, False)
    with terminal.progress_bars():
        assert not observing.observers and not observing.row_observers
    assert stream.getvalue() == ""


def test_the_command_is_named_as_it_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its path where its name alone is not found: in an environment that nobody has activated."""
    program = tmp_path / "racro"
    program.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert typed(str(program)) == "racro"
    assert typed(str(tmp_path / "main.py")) == "racro"
    monkeypatch.setenv("PATH", "/nowhere")
    assert typed(".venv/bin/racro") == ".venv/bin/racro"
    assert typed(str(program)) == str(program)
