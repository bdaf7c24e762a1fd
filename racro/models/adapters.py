"""LoRA adapters in PEFT's format: a small folder that names the model it adapts.

Reads adapters, attaches them to a model, saves them. Not a trainer (`racro.training.trainer`), and nothing is merged:
engines serve model and adapter side by side. Used where captioners are loaded (`racro.models.folders`), served
(`racro.engines`) and trained. Imports PEFT on use.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from racro.config import Lora
from racro.errors import BadInput

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
STAND_INS: dict[str, tuple[str, ...]] = {
    "gate_proj": ("gate_up_proj", "w1"),
    "up_proj": ("gate_up_proj", "w3"),
    "down_proj": ("w2",),
    "q_proj": ("in_proj_qkv", "in_proj_qkvz", "in_proj"),
    "k_proj": ("in_proj_qkv", "in_proj_qkvz", "in_proj"),
    "v_proj": ("in_proj_qkv", "in_proj_qkvz", "in_proj_z", "in_proj"),
    "o_proj": ("out_proj",),
}
"""Layers that take the part of others, in models that fuse them or have linear attention."""


class BadAdapter(BadInput):
    """An adapter that is damaged, whose model cannot be found, or that does not fit its model."""


@dataclass(frozen=True)
class Adapter:
    """What the configuration of an adapter says. One rank and one scale for all layers."""

    folder: Path
    base: str
    """Name of the model it adapts, as a recipe would name it."""
    revision: str | None
    rank: int
    scale: float
    """Factor of the product of its two matrices."""

    @classmethod
    def read(cls, folder: Path) -> Adapter | None:
        """The adapter in a folder; None if there is none. Raises BadAdapter."""
        file = folder / CONFIG
        if not file.is_file():
            return None
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
            if config["peft_type"] != "LORA" or not isinstance(config["base_model_name_or_path"], str):
                raise ValueError("it is not a LoRA adapter that names its model")
            divisor = math.sqrt(config["r"]) if config.get("use_rslora") else config["r"]
            scale = config["lora_alpha"] / divisor
        except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
            raise BadAdapter(f"{file}: {type(error).__name__}: {error}; get the adapter again") from error
        if not (folder / WEIGHTS).is_file():
            raise BadAdapter(f"{folder} holds no {WEIGHTS}; get the adapter again")
        return cls(folder, config["base_model_name_or_path"], config.get("revision"), config["r"], scale)


def inner(model: Any) -> Any:
    """A model without PEFT's wrapper, if it has one."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def fresh(lora: Lora, model: Any) -> LoraConfig:
    """The configuration of a new adapter of `model`. It changes nothing yet, because its second matrices are zero."""
    from peft import LoraConfig

    # Linear layers of the language model only: the vision tower has some of the same names, and vLLM leaves it alone.
    decoder = model.get_decoder()
    place = next(name for name, module in model.named_modules() if module is decoder).rpartition(".")[2]
    there = {name.rpartition(".")[2] for name, _ in decoder.named_modules()}
    stand_ins = [name for target in lora.targets for name in STAND_INS.get(target, ()) if name in there]
    targets = rf".*\.{re.escape(place)}\..*\.({'|'.join(dict.fromkeys([*lora.targets, *stand_ins]))})"
    return LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=targets, task_type="CAUSAL_LM")


def attach(model: Any, folder: Path, trainable: bool = False) -> PeftModel:
    """Attach the adapter in `folder` to its model, in place. Raises BadAdapter."""
    from peft import LoraConfig, get_peft_model

    try:
        config = LoraConfig.from_pretrained(folder)
        config.inference_mode = not trainable
        config.base_model_name_or_path = None  # PEFT warns if the model was not loaded from this name
        adapted = get_peft_model(model, config)
    except (ValueError, TypeError) as error:
        raise _misfit(folder, error) from error
    load(adapted, folder)
    return adapted


@contextlib.contextmanager
def instead(adapted: PeftModel, name: str | None) -> Iterator[None]:
    """Have a model compute with another of its adapters, or with none, within the context.

    Not PEFT's own way, which also switches `requires_grad`: of a model whose weights are divided among processes, it
    would switch that of the gathered weights off and that of the shares on, or the other way round.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in adapted.modules() if isinstance(module, BaseTunerLayer)]
    before = [(layer._disable_adapters, layer._active_adapter) for layer in layers]
    for layer, (_, active) in zip(layers, before, strict=True):
        layer._disable_adapters, layer._active_adapter = name is None, active if name is None else [name]
    try:
        yield
    finally:
        for layer, (disabled, active) in zip(layers, before, strict=True):
            layer._disable_adapters, layer._active_adapter = disabled, active


def load(adapted: PeftModel, folder: Path) -> None:
    """Load the weights in `folder` into the adapter of a model. Raises BadAdapter."""
    from peft import set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = set_peft_model_state_dict(adapted, load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise _misfit(folder, error) from error
    if wrong := [name for name in found.missing_keys if ".default." in name] + found.unexpected_keys:
        raise _misfit(folder, f"{len(wrong)} tensors are missing or unknown, the first is {wrong[0]}")


def save(
    adapted: PeftModel, folder: Path, base: str, revision: str | None, weights: dict[str, Any] | None = None
) -> None:
    """Write the adapter and the name of the model it adapts. `weights`: of the model; None: those that it holds."""
    config = adapted.peft_config["default"]
    config.base_model_name_or_path, config.revision = base, revision
    # Embeddings are never adapted; to find that out, PEFT would look up the model by its name.
    adapted.save_pretrained(folder, selected_adapters=["default"], save_embedding_layers=False, state_dict=weights)
    (folder / "README.md").unlink()  # a model card without content


def _misfit(folder: Path, why: object) -> BadAdapter:
    return BadAdapter(f"{folder}: the adapter cannot be put on its model: {' '.join(str(why).split())[:300]}")
