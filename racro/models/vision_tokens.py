"""The ids of a vision-language model's tokens that stand for images, videos or sound.

Sampled in a caption they would ask the trainer's forward for features that do not exist, so every engine bans them.
Families call them by different names; what their configurations call a token of an image, a video or sound is one.
Used by `racro.engines` and `racro.training`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from racro.models.folders import base_folder, load_tokenizer

TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", "<image>")
CONFIG = re.compile(r"(image|video|audio|vision|visual|boi|eoi|boa|eoa)(_\w+)?_token_(ids?|index)")


def vision_token_ids(config: Any, tokenizer: Any) -> list[int]:
    """Sorted ids, from a model's configuration and its tokenizer's vocabulary; empty for a text-only model."""
    named = [getattr(config, name) for name in vars(config) if CONFIG.fullmatch(name)]
    vocabulary = tokenizer.get_vocab()
    ids = {one for value in named for one in (value if isinstance(value, list | tuple) else [value])}
    ids |= {vocabulary.get(token) for token in TOKENS}
    return sorted(i for i in ids if isinstance(i, int))


def vision_token_ids_of(folder: str) -> list[int]:
    """The same ids of the model in `folder`, or of the model that its adapter belongs to."""
    from transformers import AutoConfig

    base = base_folder(Path(folder))
    return vision_token_ids(AutoConfig.from_pretrained(base), load_tokenizer(base))
