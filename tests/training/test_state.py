"""The trainer's state: whole or refused, also where a weight never had a gradient."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from racro.training import state


class Half(nn.Module):
    """One of its two layers is never used, as the last norm of some vision towers."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.used(value))


def trained(steps: int, start: Path | None = None) -> tuple[Half, torch.optim.AdamW]:
    torch.manual_seed(0)
    model = Half()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    if start:
        state.load(start, model, optimizer)
    for step in range(steps):
        model(torch.full((2, 4), float(step + 1))).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def test_a_weight_without_gradients_does_not_spoil_the_state(tmp_path: Path) -> None:
    model, optimizer = trained(2)
    state.save(tmp_path / "state", model, optimizer)
    again, other = trained(0, tmp_path / "state")
    assert all(torch.equal(value, again.get_parameter(name)) for name, value in model.named_parameters())
    assert state.steps_taken(other) == 2
    for name in ("used.weight", "used.bias"):
        one, two = optimizer.state[model.get_parameter(name)], other.state[again.get_parameter(name)]
        assert all(torch.equal(one[key], two[key]) for key in ("exp_avg", "exp_avg_sq", "step"))
    assert not other.state[again.unused.weight]["exp_avg"].any()


@pytest.mark.parametrize("harm", ["gone", "cut", "no record"])
def test_a_state_that_is_not_whole_is_one_line(tmp_path: Path, harm: str) -> None:
    state.save(tmp_path / "state", *trained(1))
    (file,) = (tmp_path / "state").glob("*.distcp")
    if harm == "gone":
        file.unlink()
    elif harm == "cut":
        file.write_bytes(file.read_bytes()[:200])
    else:
        (tmp_path / "state" / ".metadata").write_bytes(b"no metadata")
    with pytest.raises(state.BadState, match="the trainer's state cannot be read") as caught:
        trained(0, tmp_path / "state")
    assert "\n" not in str(caught.value)


def test_a_state_that_cannot_be_written_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an OSError, which stages know, and not as what torch makes of it."""
    import torch.distributed.checkpoint.filesystem as filesystem

    def full(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(filesystem, "_write_item", full)
    with pytest.raises(OSError, match="No space left"):
        state.save(tmp_path / "state", *trained(1))
