"""LoRA adapters as PEFT writes them: a folder with `adapter_config.json`, beside the model that it adapts.

Not a trainer, and without PEFT. Read by `racro.engines.vllm`, which serves model and adapter together.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from racro.engines.weights import Sums, add_sums, group, opened, tensor_sums
from racro.errors import BadInput


class AdapterNotServed(BadInput):
    """An adapter that changes what vLLM does not change, such as the vision tower."""


@dataclass(frozen=True)
class Adapter:
    """What its configuration says. One rank and one scale for all layers."""

    folder: Path
    base: str
    """Folder or hub id of the model that it adapts."""
    rank: int
    scale: float
    """By which the product of its two matrices is multiplied."""

    @classmethod
    def read(cls, folder: Path) -> Adapter | None:
        """None where the folder holds a whole model."""
        file = folder / "adapter_config.json"
        if not file.is_file():
            return None
        config = json.loads(file.read_text())
        rank = config["r"]
        divisor = math.sqrt(rank) if config.get("use_rslora") else rank
        return cls(folder, config["base_model_name_or_path"], rank, config["lora_alpha"] / divisor)

    def sums(self, dtype: str) -> Sums:
        """What an engine in `dtype` holds of it, by group of tensors; see `racro.engines.weights`."""
        import torch

        sums: Sums = {}
        for shard in sorted(self.folder.glob("*.safetensors")):
            with opened(shard) as file:
                for name in file.keys():  # noqa: SIM118, not a mapping
                    tensor = file.get_tensor(name).to(getattr(torch, dtype))
                    if "lora_B" in name:
                        tensor *= self.scale  # as vLLM does when it loads one
                    sums[group(name)] = add_sums(sums.get(group(name)), tensor_sums([tensor], tensor.dtype))
        return sums
