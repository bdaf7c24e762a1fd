"""The state of a training between two updates: trained weights, optimizer, number of steps.

Written by torch's distributed checkpoint: each process writes what it holds, any number of processes reads it. Weights
that are not trained are not in it. Called by `racro.training.trainer`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from racro.errors import BadInput

LAST = ".metadata"
"""The file that is written last: a folder with it is complete."""


class BadState(BadInput):
    """State of a training that cannot be read."""


def complete(folder: Path) -> bool:
    """Was this state written to its end?"""
    return (folder / LAST).is_file()


def save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write the state. To be called in all processes."""
    dcp.save(_state(model, optimizer), checkpoint_id=folder, no_dist=not torch.distributed.is_initialized())


def load(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put the state into model and optimizer. To be called in all processes. Raises BadState."""
    state = _state(model, optimizer)
    try:
        dcp.load(state, checkpoint_id=folder, no_dist=not torch.distributed.is_initialized())
    except (dcp.api.CheckpointException, OSError, RuntimeError, KeyError) as error:
        raise BadState(
            f"{folder}: the trainer's state cannot be read ({_reason(error)}); delete the folder and run again"
        ) from error
    set_state_dict(
        model,
        optimizer,
        model_state_dict=state["model"],
        optim_state_dict=state["optimizer"],
        options=StateDictOptions(strict=False),  # what is frozen is not there
    )


def steps_taken(optimizer: torch.optim.Optimizer) -> int:
    """Number of steps that the optimizer has taken, from its own state."""
    return max((int(state["step"]) for state in optimizer.state.values() if "step" in state), default=0)


def _state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    of_model, of_optimizer = get_state_dict(model, optimizer, options=StateDictOptions(ignore_frozen_params=True))
    return {"model": of_model, "optimizer": of_optimizer}


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
