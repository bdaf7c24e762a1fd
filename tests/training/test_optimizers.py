"""AdamW's moments in main memory give the same policy; in 8 bits a similar one. Both go on from their saved state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from racro.models.folders import EMBEDDED
from racro.training import replay
from racro.training.optimizer import OffloadedAdamW
from tests.support.examples import examples
from tests.support.tiny_training import TinyTraining

CAPTIONER = EMBEDDED / "captioner"


def weights(folder: Path) -> torch.Tensor:
    return torch.cat([value.flatten() for value in load_file(folder / "model.safetensors").values()])


def test_moments_in_main_memory_give_the_same_policy(
    tiny: TinyTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit, over two updates; each way goes on with the state that the other has saved."""
    used: list[str] = []
    play = replay.ReplayTrainer.replay

    def watched(self: Any, *arguments: Any) -> Any:
        result = play(self, *arguments)
        used.append(type(self.optimizer.optimizer).__name__)
        return result

    monkeypatch.setattr(replay.ReplayTrainer, "replay", watched)
    first = tiny.update(tmp_path / "a1", mini_batch=2, weight_decay=0.01)
    tiny.update(tmp_path / "b1", mini_batch=2, weight_decay=0.01, optimizer="offload")
    step = int(first["steps"])
    tiny.update(tmp_path / "a2", 2, tmp_path / "b1", step, weight_decay=0.01)
    tiny.update(tmp_path / "b2", 2, tmp_path / "a1", step, weight_decay=0.01, optimizer="offload")
    assert used == ["AdamW", "OffloadedAdamW"] * 2
    for number in "12":
        one, other = weights(tmp_path / f"a{number}"), weights(tmp_path / f"b{number}")
        assert torch.equal(one, other) and not torch.equal(one, weights(CAPTIONER))


@settings(max_examples=examples(20), deadline=None)
@given(st.integers(0, 2**31), st.floats(1e-4, 1e-1), st.floats(0, 0.5), st.integers(1, 4))
def test_steps_are_those_of_torch(seed: int, rate: float, decay: float, steps: int) -> None:
    """Also with a rate that changes, and a parameter without a gradient."""
    dice = torch.Generator().manual_seed(seed)
    start = [torch.randn(shape, generator=dice) for shape in ((3, 4), (5,), (2,))]
    made = []
    for kind in (torch.optim.AdamW, OffloadedAdamW):
        values = [value.clone().requires_grad_() for value in start]
        optimizer = kind(values, lr=rate, weight_decay=decay)
        own = torch.Generator().manual_seed(seed + 1)
        for number in range(steps):
            optimizer.param_groups[0]["lr"] = rate / (number + 1)
            for value in values[:2]:
                value.grad = torch.randn(value.shape, generator=own)
            optimizer.step()
        assert len(optimizer.state_dict()["state"]) == 2
        made.append(torch.cat([value.detach().flatten() for value in values]))
    assert torch.equal(*made)


def test_moments_in_8_bits_are_saved_and_gone_on_with(
    tiny: TinyTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchao", reason="the extra `optimizers` is not installed")
    kinds: list[set[str]] = []
    play = replay.ReplayTrainer.replay

    def watched(self: Any, *arguments: Any) -> Any:
        def look() -> None:
            kinds.append({type(entry["exp_avg"]).__name__ for entry in self.optimizer.optimizer.state.values()})

        look()  # as loaded
        result = play(self, *arguments)
        look()  # after the steps
        return result

    monkeypatch.setattr(replay.ReplayTrainer, "replay", watched)
    first = tiny.update(tmp_path / "1", mini_batch=2, moments="adamw_8bit")
    plain = tiny.update(tmp_path / "plain", mini_batch=2)
    assert first["loss"] == pytest.approx(plain["loss"], abs=1e-2)
    one, other, start = (weights(folder) for folder in (tmp_path / "1", tmp_path / "plain", CAPTIONER))
    assert 0 < (one - other).norm() < 0.2 * (other - start).norm()
    second = tiny.update(
        tmp_path / "2", mini_batch=2, policy=tmp_path / "1", step=int(first["steps"]), moments="adamw_8bit"
    )
    assert second["steps"] == first["steps"] and not torch.equal(weights(tmp_path / "2"), one)
    assert [("OptimState8bit" in found) for found in kinds] == [False, True, False, False, True, True]
