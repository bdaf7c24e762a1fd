"""Killed at any point, a run goes on where it was: nothing finished runs twice, and the policy is the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from flows.training import train
from racro.config import loading
from racro.summary import Summary
from tests.conftest import EMBEDDED_RECIPE, REPOSITORY, TINY, nobody_works_in
from tests.support import forkserver
from tests.support.eventually import eventually
from tests.support.sparse import SPARSE


@pytest.fixture(scope="module")
def undisturbed(prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Summary:
    """A run that is not killed, and keeps the trainer's state after every iteration."""
    root = tmp_path_factory.mktemp("undisturbed")
    recipe = loading.load(EMBEDDED_RECIPE, [*TINY, *SPARSE, "runtime.checkpoint_every=1"])
    return train(recipe, run="whole", root=str(root))


def test_killed_at_many_writes_in_every_stage(undisturbed: Summary, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    driver = subprocess.run(
        [sys.executable, "-m", "tests.support.killing", str(root), "1"],
        env=os.environ,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=1100,
    )
    assert driver.returncode == 0, driver.stderr[-3000:]
    result = json.loads(driver.stdout.splitlines()[-1])
    assert result["policy"] == undisturbed.policy.digest
    assert result["rewritten"] == []
    assert result["stages"] == sum(stage.executed for stage in undisturbed.stages.values())
    places = {kill.split(" ")[1].split("/")[2] for kill in result["kills"] if "/artifacts/" in kill}
    every = {"prepare", "solve", "caption", "reward-answer", "compose", "update", "describe", "answer"}
    assert every <= places, f"in both stages of the training, which solves and then captions: {result['kills']}"
    assert result["replayed"] >= 1, "an update whose weights were lost was taken again"


def there_or_ended(folder: Path, pattern: str, process: subprocess.Popen[bytes]) -> bool:
    return any(folder.rglob(pattern)) or process.poll() is not None


def test_a_killed_command_leaves_no_process_and_the_same_command_finishes(
    undisturbed: Summary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_HOME", "MLFLOW_TRACKING_URI", "RACRO_HOME"):
        monkeypatch.delenv(name, raising=False)
    command = [sys.executable, "-m", "flows.cli.main", "train", EMBEDDED_RECIPE, "--run", "killed"]
    command += [argument for override in (*TINY, *SPARSE) for argument in ("--set", override)]
    dice = random.Random(2)
    for wait_for in ("server.log", "artifacts/caption/*/record.json"):
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        assert eventually(partial(there_or_ended, tmp_path, wait_for, process))
        time.sleep(dice.uniform(0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert nobody_works_in(tmp_path), "a process of the killed command lives on"
    command = [str(forkserver.shared().racro), *command[3:]]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1000)
    assert finished.returncode == 0, finished.stderr[-3000:]
    summary = Summary.model_validate_json((tmp_path / "runs" / "killed" / "summary.json").read_text())
    assert summary.policy.digest == undisturbed.policy.digest
    assert summary.stages["caption"].cached >= 1
    assert nobody_works_in(tmp_path)
