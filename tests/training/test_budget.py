"""Neither the budget of a bin nor the number of processes changes the result of an update."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from racro import config
from racro.models.folders import EMBEDDED
from racro.training import planning, replay
from racro.training.bins import Bin, Lengths, deal
from tests.support.scoring import rescored
from tests.support.tiny_training import RUNTIME, SETTINGS, TinyTraining
from tests.support.updating import optimizer_state, update

CAPTIONER = EMBEDDED / "captioner"


@pytest.fixture(scope="module")
def rollouts(tiny: TinyTraining) -> list[Any]:
    """Captions of different lengths, one of them unscored."""
    rows = tiny.rollouts(CAPTIONER)
    rows = rescored(rows, {1: None})
    return rows


class Run:
    """Weights, gradients and metrics of one optimizer step."""

    def __init__(self, tiny: TinyTraining, rollouts: list[Any], out: Path, tokens: int) -> None:
        self.metrics = update(
            planning.plan(rollouts, tiny.problems, rollouts[0].policy, 4),
            images_base=str(tiny.table),
            policy=CAPTIONER,
            initial=CAPTIONER,
            out=out,
            step=0,
            captioner=config.Captioner(model="embedded", dtype="float32"),
            temperature=1.0,
            config=SETTINGS,
            runtime=RUNTIME.model_copy(update={"trainer": config.TrainerPlacement(tokens=tokens)}),
            seed=0,
        )
        self.weights = safetensors.torch.load_file(out / "model.safetensors")
        self.gradients = {key: entry["exp_avg"] for key, entry in optimizer_state(out).items()}

    def equals(self, other: Run) -> None:
        assert _apart(self.gradients, other.gradients) <= 5e-6 * _size(other.gradients)  # float32 rounds to 1.4e-6
        # Adam's first step is nearly the sign of a gradient, also of the few that are nothing but rounding.
        initial = safetensors.torch.load_file(CAPTIONER / "model.safetensors")
        assert _apart(self.weights, other.weights) <= 2e-3 * _apart(initial, other.weights)
        for name in ("loss", "kl", "entropy", "grad_norm", "clip_ratio", "logprob_gap", "importance_ratio"):
            assert self.metrics[name] == pytest.approx(other.metrics[name], rel=1e-5, abs=1e-7), name


def _size(tensors: dict[Any, torch.Tensor]) -> float:
    return math.sqrt(sum(value.square().sum().item() for value in tensors.values()))


def _apart(some: dict[Any, torch.Tensor], others: dict[Any, torch.Tensor]) -> float:
    return _size({key: some[key] - other for key, other in others.items()})


@pytest.fixture(scope="module")
def whole(tiny: TinyTraining, rollouts: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The step in one bin."""
    return Run(tiny, rollouts, tmp_path_factory.mktemp("whole"), 10**6)


@pytest.mark.parametrize("tokens", [1, 95, 300])
def test_the_budget_does_not_change_the_result(
    tiny: TinyTraining, rollouts: list[Any], whole: Run, tmp_path: Path, tokens: int
) -> None:
    """From a bin for each caption to one for the whole step, though bins have different numbers of tokens."""
    Run(tiny, rollouts, tmp_path / "policy", tokens).equals(whole)


def test_the_bins_of_several_processes_make_the_same_step(
    tiny: TinyTraining, rollouts: list[Any], whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here one process takes the bins of three, with those that only keep step."""

    def together(groups: dict[int, Lengths], processes: int, budget: int, shared: bool) -> list[list[Bin]]:
        dealt = deal(groups, 3, budget, shared)
        return [[bin for own in dealt for bin in own]]

    monkeypatch.setattr(replay, "deal", together)
    assert Bin(()) in together({i: Lengths(80, (8, 8, 8, 8)) for i in range(4)}, 1, 150, True)[0]
    Run(tiny, rollouts, tmp_path / "policy", 150).equals(whole)
