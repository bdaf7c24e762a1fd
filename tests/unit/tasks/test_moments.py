"""The moving moments that an iteration finds: those that the one before it left, if it was estimated by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from racro.rewards.moments import Moments, State
from racro.schema import ScoredTable
from racro.storage import artifacts
from tasks.compose import MOMENTS, moments


def composed(folder: Path, inputs: dict[str, Any]) -> ScoredTable:
    record = artifacts.Record(
        stage="compose",
        identity="",
        inputs=inputs,
        code_version="",
        handle={"rows": 0, "digest": ""},
        handle_type="ScoredTable",
        seconds=0.0,
        finished=0.0,
    )
    artifacts.write_record(str(folder), record)
    return ScoredTable(uri=str(folder), rows=0, digest="")


def test_moments_begin_anew_after_another_estimator(tmp_path: Path) -> None:
    """As where a stage of a training goes on from one with another estimator."""
    assert moments(None) == {}
    assert moments(composed(tmp_path / "group", {})) == {}
    assert moments(composed(tmp_path / "none", {"advantage": {"type": "none"}})) == {}


def test_moments_are_read_as_they_were_written(tmp_path: Path) -> None:
    before = composed(tmp_path / "ema", {"advantage": {"type": "ema"}})
    with pytest.raises(FileNotFoundError):
        moments(before)
    state = State({"algebra": Moments(mean=1 / 3, square=0.1 + 0.2)})
    artifacts.write_file(f"{before.uri}/{MOMENTS}", state.model_dump_json().encode())
    assert moments(before) == state.root
