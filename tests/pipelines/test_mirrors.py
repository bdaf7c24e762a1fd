"""Metrics for people who look elsewhere: what TensorBoard and wandb hold is what was logged."""

from __future__ import annotations

from pathlib import Path

import pytest

from racro import mirrors
from racro.config import loading
from tests.support.eventually import eventually

METRICS = [(0, 1.7e9, {"heldout/accuracy": 0.5}), (0, 1.7e9 + 5, {"compose/reward_mean": 0.25, "update/kl": 0.125})]


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RACRO_HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # no account of whoever runs the tests


def written(name: mirrors.MirrorName) -> None:
    mirror = mirrors.opened(name, loading.load("smoke"), "run", "identity")
    for metrics in METRICS:
        mirror.log(*metrics)
    mirror.close(failed=False)


def test_tensorboard_reads_back_what_was_logged_and_nothing_twice(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    written("tensorboard")
    written("tensorboard")  # a run that goes on
    found = EventAccumulator(str(tmp_path / "tensorboard" / "run")).Reload()
    assert {
        (name, event.step, event.wall_time, event.value)
        for name in found.Tags()["scalars"]
        for event in found.Scalars(name)
    } == {(name, step, when, value) for step, when, metrics in METRICS for name, value in metrics.items()}
    assert all(len(found.Scalars(name)) == 1 for name in found.Tags()["scalars"])


def test_wandb_without_an_account_writes_a_file_that_can_be_synced(tmp_path: Path) -> None:
    written("wandb")
    [file] = (tmp_path / "wandb").rglob("offline-run-*/run-identity.wandb")
    names = [name.encode() for _, _, metrics in METRICS for name in metrics]
    assert eventually(lambda: all(name in file.read_bytes() for name in names))  # another process writes it


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_one_line_with_the_remedy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = loading.load("smoke", [f"runtime.mirrors=[{name}]"])
    mirrors.require(recipe)
    monkeypatch.setattr(mirrors.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(mirrors.NoMirror, match=f"runtime.mirrors: {name} is not installed; `pip install {name}`"):
        mirrors.require(recipe)
