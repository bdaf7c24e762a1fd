"""LoRA adapters in vLLM: which fit, how much room they need, and whether vLLM applies all of one.

The folders themselves are `racro.models.adapters`. Used by `racro.engines.vllm.engine` and by the servers.
"""

from __future__ import annotations

from pathlib import Path

from racro.config import Lora
from racro.engines.protocol import SwapFailed
from racro.engines.vllm.weights import Sums, add_sums, group, opened, tensor_sums
from racro.models.adapters import WEIGHTS, Adapter, BadAdapter
from racro.models.folders import base_folder

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks of adapters for which vLLM makes room."""


def room(adapter: Adapter | None, lora: Lora | None) -> int | None:
    """vLLM's `max_lora_rank` for the adapter that it begins with, or for those to come; None for neither."""
    rank = adapter.rank if adapter else lora.rank if lora else None
    return rank and next((enough for enough in RANKS if enough >= rank), rank)


def fitting(folder: Path, base: Path) -> Adapter:
    """The adapter in a folder, for an engine on `base`. Raises SwapFailed and BadAdapter."""
    adapter = Adapter.read(folder)
    if adapter is None or base_folder(folder).resolve() != base.resolve():
        raise SwapFailed(f"{folder} is no adapter of {base}")
    return adapter


def adapter_sums(adapter: Adapter, dtype: str) -> Sums:
    """What an engine in `dtype` holds of it, by group of tensors (see `.weights`). Raises SwapFailed."""
    import torch

    sums: Sums = {}
    with opened(adapter.folder / WEIGHTS) as file:
        for name in file.keys():  # noqa: SIM118, not a mapping
            tensor = file.get_tensor(name).to(getattr(torch, dtype))
            if "lora_B" in name:
                tensor *= adapter.scale  # as vLLM does when it loads one
            sums[group(name)] = add_sums(sums.get(group(name)), tensor_sums([tensor], tensor.dtype))
    return sums


def not_served(adapter: Adapter, error: SwapFailed) -> BadAdapter:
    """The error of an adapter that vLLM does not apply as it is."""
    return BadAdapter(
        f"{adapter.folder}: vLLM does not serve all of this adapter ({error}); it may adapt the linear layers of the "
        "language model"
    )
