"""Can this project use a model as captioner or as reasoner? Asked before anything runs, without loading weights.

What can be known from a model's small files is: its architecture, its processor, its chat template. The answer is
nothing, one sentence that a user should know, or an error that names the model and the remedy. docs/models.md lists the
families that were tried. Called by the stages that adopt a model and by `racro.answering`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from racro.config import PixelRange
from racro.errors import BadInput
from racro.models import making
from racro.models.chat_template import BadTemplate, ChatTemplate
from racro.models.folders import base_folder, load_processor, load_tokenizer
from racro.models.pixels import UNLIMITED, limit


class UnsupportedModel(BadInput):
    """A model that transformers does not know, that needs code of its own, or that has no images to look at."""


def check(
    role: str,
    name: str,
    folder: Path,
    template_kwargs: Mapping[str, Any],
    pixels: PixelRange = UNLIMITED,
    sees: bool | None = None,
) -> str | None:
    """A note on how `role` will be prompted, or None. Loads transformers, except for the embedded models.

    `name`: the model as the recipe names it. `pixels`: limits on the size of images. `sees`: it is shown images; None:
    if it is a captioner. Raises UnsupportedModel, BadTemplate and NoPixelLimits.
    """
    sees = role == "captioner" if sees is None else sees
    if name == "embedded" and not template_kwargs and pixels == UNLIMITED:
        return None
    base = base_folder(folder)
    _require_architecture(role, name, base, sees)
    try:
        processor = load_processor(base) if sees else None
        tokenizer = load_tokenizer(base) if processor is None else processor.tokenizer
    except (ImportError, ValueError, OSError, KeyError, AttributeError, TypeError) as error:
        raise UnsupportedModel(
            f"{role}.model: tokenizer or processor of {name} cannot be loaded: {_line(error)}; install what is missing "
            "or use another model"
        ) from error
    if processor is not None and not hasattr(processor, "image_token"):
        raise UnsupportedModel(
            f"{role}.model: the processor of {name} ({type(processor).__name__}) does not say which token stands for "
            "an image; use a model of another family (docs/models.md)"
        )
    if processor is not None:
        limit(processor, pixels)
    try:
        return ChatTemplate(name, tokenizer, processor, template_kwargs).note
    except BadTemplate as error:
        raise BadTemplate(f"{role}.model: {error}") from error


def _require_architecture(role: str, name: str, folder: Path, shown: bool) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    try:
        config = AutoConfig.from_pretrained(folder)
    except (ValueError, KeyError, OSError) as error:
        raise UnsupportedModel(
            f"{role}.model: transformers cannot load {name}: {_line(error)}; use a model that it supports without code "
            "of the model's own (docs/models.md)"
        ) from error
    kind = type(config)
    sees = kind in AutoModelForImageTextToText._model_mapping
    if shown and not sees:
        purpose = "train" if role == "captioner" else "show images to"
        raise UnsupportedModel(
            f"{role}.model: {name} ({kind.model_type}) is no vision-language model that transformers can {purpose}; "
            "use one of those in docs/models.md"
        )
    if not shown and not sees and kind not in AutoModelForCausalLM._model_mapping:
        raise UnsupportedModel(
            f"{role}.model: {name} ({kind.model_type}) is no model that writes text; use one of those in docs/models.md"
        )
    if reads := _reads_otherwise(config):
        raise UnsupportedModel(
            f"{role}.model: {name} ({kind.model_type}) {reads}, and here a model reads what it wrote as it reads its "
            "prompt, from left to right; use one of those in docs/models.md"
        )
    if role == "captioner":
        try:
            making.without_weights(AutoModelForImageTextToText, config)
        except Exception as error:  # each family has its own
            raise UnsupportedModel(
                f"{role}.model: transformers cannot make the model of {name} ({kind.model_type}): {_line(error)}; "
                "install what is missing, or use one of those in docs/models.md"
            ) from error


def _reads_otherwise(config: Any) -> str | None:
    """How a model reads its prompt, if not from left to right."""
    if config.is_encoder_decoder:
        return "has an encoder for its prompt"
    if getattr(config.get_text_config(), "use_bidirectional_attention", None) is True:
        return "reads its prompt in both directions"
    return None


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
