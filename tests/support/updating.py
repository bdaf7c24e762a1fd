"""One update from a policy's folder to the next one's, as the stage does it, without its artifacts."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from racro import config as recipes
from racro.models.folders import TRAINER
from racro.training.planning import Plan
from racro.training.trainer import Trainer, Training


def update(
    work: Plan,
    *,
    images_base: str,
    policy: Path,
    initial: Path,
    out: Path,
    step: int,
    captioner: recipes.Captioner,
    temperature: float,
    config: recipes.UpdateSettings,
    runtime: recipes.Runtime,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """Train from the state in `policy`; write model and state to `out`; metrics."""
    training = Training(initial, captioner, temperature, config, runtime, seed)
    trainer = Trainer(training, policy / TRAINER if step else None)
    try:
        metrics = trainer.update(work, images_base, step, progress)
        trainer.export(out)
        trainer.save(out / TRAINER)
    finally:
        del trainer
        gc.collect()
    return metrics


def optimizer_state(policy: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The optimizer's state that lies beside a policy, by the name of the weight."""
    with tempfile.TemporaryDirectory() as place:
        dcp_to_torch_save(policy / TRAINER, Path(place) / "state.pt")
        state: dict[str, dict[str, torch.Tensor]] = torch.load(Path(place) / "state.pt")["optimizer"]["state"]
    return state
