"""How large is a model? Counted on its configuration alone, with the model on torch's meta device, without weights.

Says what is trained, what lies in the largest layer, and how wide the layers are. What that takes of a GPU's memory is
computed in `racro.models.memory`. Loads torch and transformers on use.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from racro.config import Lora, ModelSection, Part
from racro.models import making
from racro.models.adapters import Adapter
from racro.models.folders import base_folder, embedded


@dataclass(frozen=True)
class Tower:
    """Layers of one kind: the language model, or the vision tower."""

    layers: int
    hidden: int
    """Numbers that go from layer to layer, for each position."""
    width: int
    """Inputs and outputs of all linear parts of a layer together, for each position."""
    positions: float
    """Positions for each token of the language model: 1, or an image's patches for each of its tokens."""
    trained: bool
    """Does a backward pass go through it?"""


@dataclass(frozen=True)
class Sizes:
    """Numbers of parameters of a captioner, and the shape of its layers."""

    trained: int
    frozen: int
    base: int
    """Without an adapter's."""
    adapted: bool
    """Is only an adapter trained?"""
    layer: int
    """Of the largest layer."""
    rest: int
    """Of all that is in no layer: embeddings, output layer."""
    head: int
    """Of the output layer; 0 if it is not trained."""
    vocabulary: int
    towers: tuple[Tower, ...]


def config_folder(config: ModelSection, download: bool = False) -> Path | None:
    """The folder with a model's config.json on this machine; None if it is not there.

    `download`: get this one file from Hugging Face if it is not there.
    """
    if config.model == "embedded":
        return embedded(config.reads_images)
    if Path(config.model).is_dir():
        return Path(config.model)
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = try_to_load_from_cache(config.model, "config.json", revision=config.revision)
        if not isinstance(found, str) and download:
            found = hf_hub_download(config.model, "config.json", revision=config.revision, etag_timeout=5)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError):
        # The stage that adopts the model says what is wrong with its name.
        return None
    return Path(found).parent if isinstance(found, str) else None


@functools.lru_cache
def captioner(folder: Path, lora: Lora | None, freeze: tuple[Part, ...]) -> Sizes:
    """Sizes of the captioner that is trained from a model folder. Raises what transformers raises for its config."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from racro.models import adapters
    from racro.models.parts import freeze as frozen

    model = making.without_weights(AutoModelForImageTextToText, AutoConfig.from_pretrained(base_folder(folder)))
    with torch.device("meta"):
        base, shape = _parameters(model), _shape(model)
        adapted = lora is not None or Adapter.read(folder) is not None
        if adapted:
            from peft import LoraConfig, get_peft_model

            settings = adapters.fresh(lora, model) if lora is not None else LoraConfig.from_pretrained(folder)
            settings.inference_mode, settings.base_model_name_or_path = False, None
            model = get_peft_model(model, settings)
        else:
            frozen(model, freeze)
    core = model.get_base_model() if adapted else model
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    head = core.get_output_embeddings().weight
    return Sizes(
        trained=trained,
        frozen=_parameters(model) - trained,
        base=base,
        adapted=adapted,
        head=head.numel() if head.requires_grad else 0,
        vocabulary=head.shape[0],
        towers=_towers(core),
        **shape,
    )


@functools.lru_cache
def parameters(folder: Path) -> int:
    """Number of parameters of a model of any kind. Raises what transformers raises for its config."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(base_folder(folder))
    auto = AutoModelForCausalLM if type(config) in AutoModelForCausalLM._model_mapping else AutoModelForImageTextToText
    return _parameters(making.without_weights(auto, config))


def quantized(folder: Path) -> bool:
    """Are the weights of a checkpoint stored in fewer bits than its dtype says?"""
    from transformers import AutoConfig

    return getattr(AutoConfig.from_pretrained(base_folder(folder)), "quantization_config", None) is not None


def _parameters(model: Any) -> int:
    return sum(value.numel() for value in model.parameters())


def _shape(model: Any) -> dict[str, int]:
    from racro.models.parts import layers

    found = [_parameters(layer) for layer in layers(model)]
    return {"layer": max(found, default=0), "rest": _parameters(model) - sum(found)}


def _towers(model: Any) -> tuple[Tower, ...]:
    """The language model, and the vision tower if it has layers."""
    text, decoder, vision = model.config.get_text_config(), model.get_decoder(), model.get_encoder(modality="image")
    found = [_tower(decoder, text.hidden_size, 1.0)]
    images = getattr(model.config, "vision_config", None)
    hidden = getattr(images, "hidden_size", None) or getattr(images, "embed_dim", None)
    if hidden and vision is not model and vision is not decoder:
        merged = getattr(images, "spatial_merge_size", None) or 1
        found.append(_tower(vision, hidden, merged**2))
    return tuple(tower for tower in found if tower.layers)


def _tower(part: Any, hidden: int, positions: float) -> Tower:
    from torch.nn import Linear

    from racro.models.parts import layers

    own = list(layers(part))
    widths = [
        sum(
            linear.in_features + linear.out_features
            for name, linear in layer.named_modules()
            # An adapter keeps the input of its layer, which then need not keep it.
            if isinstance(linear, Linear) and "lora_" not in name
        )
        for layer in own
    ]
    trained = any(value.requires_grad for layer in own for value in layer.parameters())
    return Tower(len(own), hidden, max(widths, default=0), float(positions), trained)
