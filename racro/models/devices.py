"""Does this machine have the devices that a recipe's `runtime` names? Asked before anything starts."""

from __future__ import annotations

import importlib.util
import shutil

from racro.config import Recipe
from racro.errors import BadInput
from racro.models import attention
from racro.processes.gpus import free_shares


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
        if place.gpus and not place.urls and engine.type != "scripted":
            there = free_shares()
            if missing := [str(number) for number in place.gpus if number not in there]:
                found = f"GPUs {', '.join(map(str, there))}" if there else "no GPU"
                raise NoDevice(f"runtime.{role}.gpus: there is no GPU {', '.join(missing)}; nvidia-smi shows {found}")
    attention.require(recipe)
    if recipe.update.optimizer == "adamw_8bit":
        _require_8_bits()


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
