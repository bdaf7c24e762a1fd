"""The two tiny architectures: a Qwen2.5-VL captioner with its image processor, and a Qwen2 reasoner.

Real Hugging Face models with few parameters and random weights. Called by `racro.embedded.rebuild`.
"""

from __future__ import annotations

from typing import Any

from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2VLImageProcessorPil,
)

from racro.embedded.recipe import EmbeddedRecipe
from racro.embedded.tokenizer import END, END_OF_TEXT, IMAGE, VIDEO, VISION_END, VISION_START
from racro.embedded.world import BARS, CELL

PATCH, MERGE = 14, 2
ROPE_THETA = 10_000.0


def untrained_captioner(
    recipe: EmbeddedRecipe, tokenizer: PreTrainedTokenizerBase, reasoner: PreTrainedModel
) -> PreTrainedModel:
    """Qwen2.5-VL: a new vision tower on the reasoner's decoder, as real models start from a language model.

    Every vision layer attends to the whole image, which fits into one window anyway.
    """
    sizes = recipe.decoder
    rotary = sizes.hidden // sizes.heads // 2
    spatial = rotary * 3 // 8  # As in the real model: a quarter of the rotary pairs for time, the rest for space.
    text = decoder_config(recipe, tokenizer) | {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": ROPE_THETA,
            "mrope_section": [rotary - 2 * spatial, spatial, spatial],
        },
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config={
            "depth": recipe.vision.layers,
            "hidden_size": recipe.vision.hidden,
            "num_heads": recipe.vision.heads,
            "intermediate_size": recipe.vision.mlp,
            "out_hidden_size": sizes.hidden,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "window_size": BARS * CELL,
            "fullatt_block_indexes": list(range(recipe.vision.layers)),
            "initializer_range": recipe.initializer_range,
        },
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        video_token_id=tokenizer.convert_tokens_to_ids(VIDEO),
        vision_start_token_id=tokenizer.convert_tokens_to_ids(VISION_START),
        vision_end_token_id=tokenizer.convert_tokens_to_ids(VISION_END),
        tie_word_embeddings=True,
        initializer_range=recipe.initializer_range,
    )
    captioner = _with_generation(Qwen2_5_VLForConditionalGeneration(config), tokenizer)
    captioner.model.language_model.load_state_dict(reasoner.model.state_dict())
    return captioner


def untrained_reasoner(recipe: EmbeddedRecipe, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A Qwen2 with random weights."""
    config = Qwen2Config(
        **decoder_config(recipe, tokenizer),
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
    )
    return _with_generation(Qwen2ForCausalLM(config), tokenizer)


def image_processor() -> Qwen2VLImageProcessorPil:
    """The image processor: images up to the world's size keep their pixels, larger ones are scaled down to it."""
    return Qwen2VLImageProcessorPil(
        patch_size=PATCH,
        merge_size=MERGE,
        temporal_patch_size=2,
        size={"shortest_edge": CELL * CELL, "longest_edge": (BARS * CELL) ** 2},
    )


def decoder_config(recipe: EmbeddedRecipe, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The settings that both decoders share."""
    sizes = recipe.decoder
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": sizes.hidden,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "intermediate_size": sizes.mlp,
        "max_position_embeddings": recipe.positions,
        "use_sliding_window": False,
        "bos_token_id": None,
        "eos_token_id": tokenizer.convert_tokens_to_ids(END),
        "pad_token_id": tokenizer.convert_tokens_to_ids(END_OF_TEXT),
        "tie_word_embeddings": True,
        "initializer_range": recipe.initializer_range,
    }


def _with_generation(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
        pad_token_id=tokenizer.convert_tokens_to_ids(END_OF_TEXT),
    )
    return model
