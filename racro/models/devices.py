"""Does this machine have the devices that a recipe's `runtime` names? Asked before anything starts."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence

from racro.config import EnginePlacement, Reasoner, Recipe, Runtime
from racro.errors import BadInput
from racro.models import attention
from racro.processes.gpus import free_shares, visible

GPUS = range(1024)
"""Numbers of GPUs that a machine may have."""


class NoDevice(BadInput):
    """A device that this machine does not have."""


class NoOptimizer(BadInput):
    """An optimizer that this machine cannot run."""


def require(recipe: Recipe) -> None:
    """As `require_engines`; raises NoAttention and NoOptimizer too, for what the trainer cannot do here."""
    if recipe.runtime.cluster.type != "local":
        return
    require_engines(recipe)
    attention.require(recipe)
    if any(phase.update.optimizer == "adamw_8bit" for phase in recipe.phases):
        _require_8_bits()


def require_engines(recipe: Recipe, reasoners: Sequence[Reasoner] = ()) -> None:
    """Raises NoDevice for `runtime.device`, or `gpus` of a role that runs a model here. Loads torch only if needed.

    reasoners: asked in place of the recipe's. Of a cluster nothing is known before its nodes are asked.
    """
    for reasoner in reasoners:
        require_engines(recipe.model_copy(update={"reasoner": reasoner}))
    if reasoners:
        return
    if recipe.runtime.cluster.type != "local":
        return
    if recipe.runtime.device not in ("auto", "cpu"):
        _require_device(recipe.runtime.device)
    for role, config in recipe.roles.items():
        place, engine = recipe.runtime.place(role), config.engine
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


def require_trainer(runtime: Runtime) -> None:
    """Raises NoDevice if the trainer cannot run where `runtime.trainer` says. Only a training asks."""
    place = runtime.trainer
    if runtime.cluster.type != "local":
        return
    if place.gpus and runtime.device == "cpu":
        raise NoDevice(
            f"runtime.trainer.gpus: {list(place.gpus)} contradict runtime.device=cpu; set runtime.device=auto, or "
            f"runtime.trainer.processes={len(place.gpus)} in place of gpus"
        )
    if place.gpus:
        there = free_shares()
        if missing := [str(number) for number in place.gpus if number not in there]:
            found = f"GPUs {', '.join(map(str, there))}" if there else "no GPU"
            raise NoDevice(
                f"runtime.trainer.gpus: there is no GPU {', '.join(missing)}; nvidia-smi shows {found}; name others, "
                "or leave it out"
            )
        if not has_cuda():
            raise NoDevice("runtime.trainer.gpus: this torch cannot use GPUs; leave it out, or see racro doctor")
    elif place.world > 1 and runtime.device != "cpu" and (there := free_shares()) and has_cuda():
        usable = visible(list(there))
        if place.world > len(usable):
            raise NoDevice(
                f"runtime.trainer.processes: {place.world} processes need a GPU each, and there are {len(usable)}; set "
                f"runtime.trainer.processes={max(1, len(usable))}, or runtime.device=cpu"
            )


def shared(runtime: Runtime, role: str) -> bool:
    """Does the trainer use a GPU that a role's engine uses too? Then only one of them may have its weights there."""
    place = runtime.place(role)
    if runtime.cluster.type != "local":  # each has GPUs of its own there
        return False
    if place.urls or shutil.which("nvidia-smi") is None or (runtime.device == "cpu" and not runtime.trainer.gpus):
        return False
    return not place.gpus or not set(trainer_gpus(runtime, visible(GPUS))).isdisjoint(place.gpus)


def trainer_gpus(runtime: Runtime, there: Sequence[int]) -> tuple[int, ...]:
    """The trainer's GPUs, if it uses any. `there`: those that this process may use, in CUDA's order."""
    place = runtime.trainer
    if place.gpus:
        return place.gpus
    if place.world > 1:
        return () if runtime.device == "cpu" else tuple(there[: place.world])
    return process_gpus(runtime, None, there)


def process_gpus(runtime: Runtime, place: EnginePlacement | None, there: Sequence[int]) -> tuple[int, ...]:
    """The GPU of `runtime.device`, or each copy's in an engine's own processes; `place`: None for the run's process."""
    if runtime.device == "cpu":
        return ()
    number = int(runtime.device.partition(":")[2] or 0)
    if place is not None and place.gpus and (place.worker or place.data_parallel > 1):
        each = place.tensor_parallel
        copies = [place.gpus[i * each : (i + 1) * each] for i in range(place.data_parallel)]
        return tuple(own[number] for own in copies if number < len(own))
    return tuple(there[number : number + 1])


def has_cuda() -> bool:
    """Can torch use GPUs here?"""
    import torch

    return torch.cuda.is_available()


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
        raise NoDevice(f"runtime.device: {name}: CPUs have no numbers; give cpu")
    if backend is None or not hasattr(backend, "is_available") or not backend.is_available():
        raise NoDevice(
            f"runtime.device: {name}: torch finds no such device here; set runtime.device=auto, or see racro doctor"
        )
    count = backend.device_count()
    if device.index is not None and device.index >= count:
        raise NoDevice(f"runtime.device: {name}: there are {count}, counted from 0; set runtime.device={device.type}:0")
