"""The state of a training between two updates: trained weights, optimizer, number of steps.

Written by torch's distributed checkpoint: each process writes what it holds, any number of processes reads it. Weights
that are not trained are not in it. Called by `racro.training.trainer`.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from racro.errors import BadInput

# As it is in a trainer of one process, which asks for that by `no_dist`.
warnings.filterwarnings("ignore", message="torch.distributed is disabled")


class BadState(BadInput):
    """State of a training that cannot be read."""


def save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write the state. To be called in all processes. Raises OSError, for example if the disk is full."""
    try:
        dcp.save(_state(model, optimizer), checkpoint_id=folder, no_dist=not torch.distributed.is_initialized())
    except dcp.api.CheckpointException as error:  # a BaseException, which nobody expects
        raise _plain(error, folder) from None


def load(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put the state into model and optimizer. To be called in all processes. Raises BadState."""
    state = _state(model, optimizer)
    moments = state["optimizer"]["state"]
    try:
        known = dcp.FileSystemReader(folder).read_metadata().state_dict_metadata
        # A weight that never had a gradient has no moments; those that it just got are zero.
        state["optimizer"]["state"] = {
            name: own for name, own in moments.items() if all(f"optimizer.state.{name}.{key}" in known for key in own)
        }
        dcp.load(state, checkpoint_id=folder, no_dist=not torch.distributed.is_initialized())
    except (dcp.api.CheckpointException, OSError, RuntimeError, KeyError, EOFError, UnpicklingError) as error:
        raise BadState(
            f"{folder}: the trainer's state cannot be read ({_reason(error)}); delete the folder and run again"
        ) from error
    set_state_dict(
        model,
        optimizer,
        model_state_dict=state["model"],
        optim_state_dict={**state["optimizer"], "state": moments | state["optimizer"]["state"]},
        options=StateDictOptions(strict=False),  # what is frozen is not there
    )


def steps_taken(optimizer: torch.optim.Optimizer) -> int:
    """Number of steps that the optimizer has taken, from its own state."""
    return max((int(state["step"]) for state in optimizer.state.values() if "step" in state), default=0)


def _state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    of_model, of_optimizer = get_state_dict(model, optimizer, options=StateDictOptions(ignore_frozen_params=True))
    return {"model": of_model, "optimizer": of_optimizer}


def _plain(error: Any, folder: Path) -> Exception:
    """What went wrong in the processes, as an exception of the usual kind."""
    found = [wrapped[0] for wrapped in error.failures.values()]
    full = next((one for one in found if isinstance(one, OSError)), None)
    return full or RuntimeError(f"{folder}: {_reason(found[0] if found else error)}")


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
