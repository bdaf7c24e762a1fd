"""Does this machine have the devices that a recipe's `runtime` names? Asked before anything starts."""

from __future__ import annotations

import importlib.util
import shutil
from typing import Literal

from racro.config import EnginePlacement, Recipe, Runtime
from racro.errors import BadInput
from racro.models import attention
from racro.processes.gpus import free_shares

Role = Literal["captioner", "reasoner"]


class NoDevice(BadInput):
    """A device that this machine does not have."""


class NoOptimizer(BadInput):
    """An optimizer that this machine cannot run."""


def require(recipe: Recipe) -> None:
    """Raises NoDevice for `runtime.device`, or `gpus` of a role that runs a model here. Loads torch only if needed.

    Raises NoAttention and NoOptimizer for what the trainer cannot do here.
    """
    if recipe.runtime.device not in ("auto", "cpu"):
        _require_device(recipe.runtime.device)
    for role in ("captioner", "reasoner"):
        place, engine = getattr(recipe.runtime, role), getattr(recipe, role).engine
        if place.urls or engine.type == "scripted" or not (place.gpus or place.needed > 1):
            continue
        there = free_shares()
        on_gpus = bool(there) and recipe.runtime.device != "cpu"
        if on_gpus and place.data_parallel > 1 and not place.gpus:
            raise NoDevice(
                f"runtime.{role}.data_parallel: {place.data_parallel} copies need GPUs each; name {place.needed} in "
                f"runtime.{role}.gpus"
            )
        if on_gpus and place.needed > len(there):
            raise NoDevice(
                f"runtime.{role}.tensor_parallel: {place.needed} GPUs are asked for, but nvidia-smi shows {len(there)}"
            )
        if missing := [str(number) for number in place.gpus if number not in there]:
            found = f"GPUs {', '.join(map(str, there))}" if there else "no GPU"
            raise NoDevice(f"runtime.{role}.gpus: there is no GPU {', '.join(missing)}; nvidia-smi shows {found}")

    attention.require(recipe)
    if recipe.update.optimizer == "adamw_8bit":
        _require_8_bits()


def shared(runtime: Runtime, role: Role) -> bool:
    """Does the trainer use a GPU that a role's engine uses too? Then only one of them may have its weights there."""
    place: EnginePlacement = getattr(runtime, role)
    if place.urls or shutil.which("nvidia-smi") is None or (runtime.device == "cpu" and not runtime.trainer.gpus):
        return False
    trainer = set(runtime.trainer.gpus) or {int(runtime.device.partition(":")[2] or 0)}
    return not place.gpus or not trainer.isdisjoint(place.gpus)


def _require_8_bits() -> None:
    if importlib.util.find_spec("torchao") is None:
        raise NoOptimizer(
            "update.optimizer: adamw_8bit needs torchao, which is not installed: pip install 'racro[optimizers]', or "
            "set update.optimizer=adamw"
        )
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        raise NoOptimizer(
            "update.optimizer: adamw_8bit is compiled when it is first used, and there is no C++ compiler: install "
            "g++, or set update.optimizer=adamw"
        )


def _require_device(name: str) -> None:
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise NoDevice(f"runtime.device: {name} is no device; give auto, cpu, cuda or cuda:1") from error
    backend = getattr(torch, device.type, None)
    if device.type == "cpu":
        return
    if backend is None or not hasattr(backend, "is_available") or not backend.is_available():
        raise NoDevice(
            f"runtime.device: {name}: torch finds no such device here; set runtime.device=auto, or see racro doctor"
        )
    count = backend.device_count()
    if device.index is not None and device.index >= count:
        raise NoDevice(f"runtime.device: {name}: there are {count}, counted from 0; set runtime.device={device.type}:0")
