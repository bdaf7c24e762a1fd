"""Prompts to a model's inputs: one way for engine, parity check and trainer.

What a processor returns differs from family to family (tiles, grids, token types, crops). Nothing here knows a family:
everything is kept that the model's forward accepts. Not a chat template (`racro.models.chat_template`).

Shapes: B prompts, L tokens of the longest.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from PIL import Image

Inputs = dict[str, torch.Tensor]
"""What a forward takes, by name; `input_ids` and `attention_mask` (B, L) among them."""


HALF = (torch.bfloat16, torch.float16)
"""What some processors make of pixels, whatever the model's weights are."""
NOT_READ = frozenset(["labels"])
"""What a forward takes for a loss of its own."""


class Takes(NamedTuple):
    """What a model takes."""

    names: frozenset[str]
    """Of inputs that its forward takes, or hands on to the model inside it."""
    dtype: torch.dtype

    @classmethod
    def of(cls, model: Any) -> Takes:
        """The model itself, without wrappers."""
        inner = getattr(model, "model", None)
        forwards = [type(model).forward, *([type(inner).forward] if inner is not None else [])]
        names = frozenset(name for forward in forwards for name in inspect.signature(forward).parameters)
        return cls(names - NOT_READ, model.dtype)


def encode(
    processor: Any, tokenizer: Any, texts: Sequence[str], images: Sequence[Sequence[Image.Image]], model: Takes
) -> Inputs:
    """Inputs of B prompts, padded left, on the CPU, without positions.

    `processor` is None for a text-only model. `texts`: filled chat templates. `images`: those of each prompt.
    """
    # The chat template has written the special tokens; a second beginning-of-text would shift the distribution.
    options = {"padding": True, "return_tensors": "pt", "add_special_tokens": False, "padding_side": "left"}
    if processor is None:
        made = dict(tokenizer(list(texts), **options))
    else:
        nested = [list(own) for own in images]
        made = dict(processor(images=nested if any(nested) else None, text=list(texts), **options))
    return {
        name: value.to(model.dtype) if value.dtype in HALF else value
        for name, value in made.items()
        if name in model.names
    }


def positions(model: Any, inputs: Inputs) -> torch.Tensor:
    """Position ids of encoded prompts: (B, L), or (3, B, L) where images have positions in space (M-RoPE)."""
    inner = getattr(model, "model", None)
    if inner is not None and hasattr(inner, "get_rope_index") and "mm_token_type_ids" in inputs:
        names = inspect.signature(inner.get_rope_index).parameters
        found: torch.Tensor = inner.get_rope_index(**{name: inputs[name] for name in names if name in inputs})[0]
        return found
    return (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)


def extended(inputs: Inputs, input_ids: torch.Tensor, attention_mask: torch.Tensor, places: torch.Tensor) -> Inputs:
    """The inputs of prompts, of prompts with completions.

    input_ids, attention_mask: (B, W) of prompt and completion, padded in any way. places: (B, W), true where a prompt's
    tokens are. Fields with a number per prompt token are placed there; a completion's are 0.
    """
    prompts = inputs["attention_mask"].bool()
    found = dict(inputs)
    for name, value in inputs.items():
        if value.shape == prompts.shape:
            found[name] = value.new_zeros(input_ids.shape).masked_scatter(places, value[prompts])
    return found | {"input_ids": input_ids, "attention_mask": attention_mask}
