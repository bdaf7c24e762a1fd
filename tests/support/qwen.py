"""Qwen2.5-VL in its published sizes, as configurations without weights; `tiny` and `small` have their shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import Qwen2_5_VLConfig, Qwen2Config

TEXT: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 256,
        "vocab_size": 2048,
    },
    "small": {
        "hidden_size": 256,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 1024,
        "vocab_size": 2048,
    },
    "3b": {
        "hidden_size": 2048,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "intermediate_size": 11008,
        "vocab_size": 151936,
    },
    "7b": {
        "hidden_size": 3584,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "intermediate_size": 18944,
        "vocab_size": 152064,
    },
    "32b": {
        "hidden_size": 5120,
        "num_hidden_layers": 64,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "intermediate_size": 27648,
        "vocab_size": 152064,
    },
}
"""Of the language models, as in their config.json."""
PUBLISHED = {
    "depth": 32,
    "hidden_size": 1280,
    "num_heads": 16,
    "intermediate_size": 3420,
    "fullatt_block_indexes": [7, 15, 23, 31],
}
VISION: dict[str, dict[str, Any]] = {
    "tiny": {
        "depth": 2,
        "hidden_size": 64,
        "num_heads": 2,
        "intermediate_size": 128,
        "fullatt_block_indexes": [1],
    },
    "small": {
        "depth": 4,
        "hidden_size": 128,
        "num_heads": 4,
        "intermediate_size": 384,
        "fullatt_block_indexes": [3],
    },
    "32b": PUBLISHED | {"intermediate_size": 3456},
}
"""Of the vision towers."""


def config(size: str, **more: Any) -> Qwen2_5_VLConfig:
    """Of Qwen2.5-VL-3B, -7B or -32B. `more`: ids of the tokenizer's tokens."""
    text, vision = TEXT[size], VISION.get(size, PUBLISHED)
    rotary = text["hidden_size"] // text["num_attention_heads"] // 2
    return Qwen2_5_VLConfig(
        text_config={
            **text,
            "max_position_embeddings": 128000,
            "use_sliding_window": False,
            "tie_word_embeddings": size in ("tiny", "small", "3b"),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [rotary // 4, rotary * 3 // 8, rotary * 3 // 8],
            },
            **{name: more[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id") if name in more},
        },
        vision_config={
            **vision,
            "out_hidden_size": text["hidden_size"],
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
        },
        tie_word_embeddings=size in ("tiny", "small", "3b"),
        **{name: value for name, value in more.items() if name.endswith("_token_id")},
    )


def captioner_folder(size: str, place: Path) -> Path:
    """A folder with the configuration and nothing else."""
    folder = place / f"captioner-{size}"
    config(size).save_pretrained(folder)
    return folder


def reasoner_folder(place: Path) -> Path:
    """The same for DeepSeek-R1-Distill-Qwen-7B."""
    folder = place / "reasoner-7b"
    sizes = TEXT["7b"] | {"max_position_embeddings": 131072, "tie_word_embeddings": False}
    Qwen2Config(**sizes).save_pretrained(folder)
    return folder
