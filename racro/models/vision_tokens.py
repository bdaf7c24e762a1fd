"""The ids of a vision-language model's tokens that stand for images.

Sampled in a caption they would ask the trainer's forward for image features that do not exist, so every engine bans
them. Used by `racro.engines`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from racro.models.folders import base_folder, load_tokenizer

TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", "<image>")
CONFIG = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


def vision_token_ids(config: Any, tokenizer: Any) -> list[int]:
    """Sorted ids, from a model's configuration and its tokenizer's vocabulary; empty for a text-only model."""
    ids = {getattr(config, name, None) for name in CONFIG}
    vocabulary = tokenizer.get_vocab()
    ids |= {vocabulary.get(token) for token in TOKENS}
    return sorted(i for i in ids if i is not None)


def vision_token_ids_of(folder: str) -> list[int]:
    """The same ids of the model in `folder`, or of the model that its adapter belongs to."""
    from transformers import AutoConfig

    base = base_folder(Path(folder))
    return vision_token_ids(AutoConfig.from_pretrained(base), load_tokenizer(base))
