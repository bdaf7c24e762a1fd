"""Where do a model's weights lie when several processes train it? FSDP2 (arXiv 2304.11277), layer by layer.

One mechanism for all ways: processes form a grid of copies times shards. With one shard each process has everything and
only gradients are summed (what DDP does); with one copy the weights are divided among all; between the two lies hybrid
sharding, whose copies are usually the nodes. Called by `racro.training.trainer`, in every process alike.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from racro.models.parts import layers


@functools.cache  # a process group is never given back
def grid(device: torch.device, processes: int, shards: int) -> DeviceMesh:
    """The processes as (copies, shards); one dimension where there is one copy. `shards`: processes of a copy."""
    if shards == processes:
        return init_device_mesh(device.type, (processes,), mesh_dim_names=("shard",))
    return init_device_mesh(device.type, (processes // shards, shards), mesh_dim_names=("copy", "shard"))


def spread(model: nn.Module, mesh: DeviceMesh, dtype: torch.dtype | None, keep: bool) -> None:
    """Divide a model's weights among the processes, in place; each layer moves to the device as it is divided.

    dtype: that of the computation, None for the weights' own. Gradients are summed in float32. keep: do layers stay
    whole between forward and backward? For models whose shards are the whole.
    """
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    # Positions reach the layers in float32 and stay so, as in the engine.
    inner = replace(policy, cast_forward_inputs=False)
    for layer in layers(model):
        fully_shard(layer, mesh=mesh, mp_policy=inner, reshard_after_forward=not keep)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    for module in model.modules():
        if isinstance(module, FSDPModule):  # processes may use different weights: of experts, of an image's tiles
            module.set_reduce_scatter_unused_params(True)


class Spread(NamedTuple):
    """How a model lies in this process."""

    parts: int
    """Layers and the rest: modules that are divided by themselves; 0 if nothing is."""
    here: int
    """Weights in this process."""
    whole: int
    """Weights in all."""


def spread_of(model: nn.Module) -> Spread:
    """How a model is divided, from the model itself."""
    values = list(model.parameters())
    return Spread(
        sum(isinstance(module, FSDPModule) for module in model.modules()),
        sum(local(value).numel() for value in values),
        sum(value.numel() for value in values),
    )


def whole(value: torch.Tensor) -> torch.Tensor:
    """All of a tensor whose parts lie in several processes. All of them must ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def local(value: torch.Tensor) -> torch.Tensor:
    """The part of a tensor that lies in this process."""
    return value.to_local() if isinstance(value, DTensor) else value


def settle(model: nn.Module) -> None:
    """Let go of what the last forward gathered: a forward without a backward leaves it there.

    Parameters are then the shares again, which optimizer and saving know.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def sum_copies(model: Any, now: bool) -> None:
    """Sum gradients over copies in the next backward pass? Only with the last bin of a step."""
    if isinstance(model, FSDPModule):
        model.set_requires_all_reduce(now)
