"""A training whose trainer is divided among processes: a lost one costs a retry, and any number of them goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from flows.training import train
from racro.config import loading
from racro.summary import Summary
from racro.training.service import Processes
from tests.conftest import EMBEDDED_RECIPE, TINY

PAIR = "runtime.trainer={processes: 2, shard: fsdp}"


def trained(root: Path, name: str, *overrides: str) -> Summary:
    return train(loading.load(EMBEDDED_RECIPE, [*TINY, "evaluation.every=1", *overrides]), run=name, root=str(root))


def weights(summary: Summary) -> dict[str, Any]:
    return load_file(Path(summary.policy.uri) / "model.safetensors")


@pytest.mark.usefixtures("prefect_server", "forked")
def test_two_processes_go_on_where_one_stopped_and_one_that_is_lost_costs_a_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = Processes.update
    lost: list[int] = []

    def disturbed(self: Processes, *arguments: Any) -> Any:
        if not lost:
            lost.extend(self.pids)
            os.kill(self.pids[1], signal.SIGKILL)
        return update(self, *arguments)

    monkeypatch.setattr(Processes, "update", disturbed)
    undisturbed = trained(tmp_path / "one", "one")
    trained(tmp_path / "two", "first", "iterations=1")
    resumed = trained(tmp_path / "two", "second", PAIR)
    assert len(lost) == 2 and not [pid for pid in lost if Path(f"/proc/{pid}").exists()]
    assert resumed.stages["update"].executed == 1 and resumed.stages["update"].cached == 1
    assert resumed.optimizer_steps == undisturbed.optimizer_steps > 1
    expected, found = weights(undisturbed), weights(resumed)
    assert max((expected[name] - found[name]).abs().max().item() for name in expected) < 1e-6
