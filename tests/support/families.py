"""Tiny random models of every captioner family in docs/models.md, built from configurations: no weights are fetched.

Each has its family's own processor, image tokens and layers: tiles, sliding windows, recurrent states, token types. The
embedded tokenizer's words serve them all; the image tokens are the family's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as hf

from racro.models.folders import EMBEDDED

HIDDEN, LAYERS, HEADS = 32, 2, 2
PIXELS = 56
"""Side of the square images that most families are shown."""


@dataclass(frozen=True)
class Family:
    """How one family is built."""

    name: str
    kind: str
    """What transformers calls it: `config.json`'s model_type."""
    image: str
    """What the chat template writes where an image stands."""
    tokens: dict[str, str]
    """Special tokens by the name under which the processor looks for them."""
    build: Callable[[Any], tuple[Any, Any]]
    """Tokenizer -> configuration, processor."""
    needs: str | None = None
    """A package that the processor needs."""


def template(image: str, thinks: bool = False) -> str:
    """A chat template in the form that most families use."""
    return (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
        "{% for part in message['content'] %}"
        f"{{% if part['type'] == 'image' %}}{image}"
        "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
        "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n" + ("<think>\n" if thinks else "") + "{% endif %}"
    )


def tokenizer(tokens: dict[str, str], image: str) -> Any:
    """The embedded models' words with a family's special tokens."""
    return hf.PreTrainedTokenizerFast(
        tokenizer_file=str(EMBEDDED / "captioner" / "tokenizer.json"),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens={**tokens, "start_token": "<|im_start|>"},
        chat_template=template(image),
        padding_side="left",
    )


def build(family: Family, folder: Path) -> Path:
    """Write the family's model, tokenizer and processor to `folder`."""
    words = tokenizer(family.tokens, family.image)
    config, processor = family.build(words)
    torch.manual_seed(0)
    model = hf.AutoModelForImageTextToText.from_config(config)
    model.generation_config = hf.GenerationConfig(eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id)
    with (
        torch.no_grad()
    ):  # spread out: an untrained model is otherwise as good as uniform, and its mistakes do not show
        for name, value in model.named_parameters():
            if value.ndim > 1:
                value.mul_(3.0 if "embed" not in name else 1.0)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def decoder(words: Any, **changes: Any) -> dict[str, Any]:
    """What the configurations of most decoders have in common."""
    return {
        "vocab_size": len(words),
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 1,
        "head_dim": HIDDEN // HEADS,
        "max_position_embeddings": 2048,
        "bos_token_id": None,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
        "tie_word_embeddings": True,
        "initializer_range": 0.1,
        **changes,
    }


def vision(**changes: Any) -> dict[str, Any]:
    """The same of vision towers."""
    return {
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_channels": 3,
        "initializer_range": 0.1,
        **changes,
    }


def mrope(**changes: Any) -> dict[str, Any]:
    """Positions in time, height and width."""
    return {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3], **changes}


def ids(words: Any, **names: str) -> dict[str, int]:
    """Ids of special tokens, under the names of the configuration."""
    return {name: words.convert_tokens_to_ids(token) for name, token in names.items()}


# --- Qwen -------------------------------------------------------------------------------------------------------------

QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
QWEN_TOKENS = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
QWEN_IDS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}


def _qwen_images(patch: int) -> Any:
    size = {"shortest_edge": (2 * patch) ** 2, "longest_edge": (8 * patch) ** 2}
    return hf.Qwen2VLImageProcessorPil(patch_size=patch, merge_size=2, temporal_patch_size=2, size=size)


def _qwen2(words: Any) -> tuple[Any, Any]:
    config = hf.Qwen2VLConfig(
        text_config=decoder(words, rope_parameters=mrope()),
        vision_config={"depth": 2, "embed_dim": HIDDEN, "hidden_size": HIDDEN, "num_heads": 2, "mlp_ratio": 2},
        tie_word_embeddings=True,
        **ids(words, **QWEN_IDS),
    )
    return config, hf.Qwen2VLProcessor(_qwen_images(14), words, hf.Qwen2VLVideoProcessor(), words.chat_template)


def _qwen3(words: Any) -> tuple[Any, Any]:
    config = hf.Qwen3VLConfig(
        text_config=decoder(words, rope_parameters=mrope(mrope_interleaved=True)),
        vision_config=_qwen3_vision(deepstack_visual_indexes=[0]),
        tie_word_embeddings=True,
        **ids(words, **QWEN_IDS),
    )
    return config, hf.Qwen3VLProcessor(_qwen_images(16), words, hf.Qwen3VLVideoProcessor(), words.chat_template)


def _qwen3_vision(**changes: Any) -> dict[str, Any]:
    return {
        "depth": 2,
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_heads": 2,
        "out_hidden_size": HIDDEN,
        "num_position_embeddings": 64,
        "initializer_range": 0.1,
        **changes,
    }


def _qwen3_5(words: Any) -> tuple[Any, Any]:
    text = decoder(
        words,
        num_hidden_layers=3,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        linear_num_key_heads=1,
        linear_num_value_heads=2,
        rope_parameters=mrope(mrope_interleaved=True, partial_rotary_factor=1.0),
    )
    config = hf.Qwen3_5Config(
        text_config=text, vision_config=_qwen3_vision(), tie_word_embeddings=True, **ids(words, **QWEN_IDS)
    )
    return config, hf.Qwen3VLProcessor(_qwen_images(16), words, hf.Qwen3VLVideoProcessor(), words.chat_template)


# --- GLM --------------------------------------------------------------------------------------------------------------

GLM_IMAGE = "<|begin_of_image|><|image|><|end_of_image|>"
GLM_TOKENS = {
    "image_token": "<|image|>",
    "video_token": "<|video|>",
    "image_start": "<|begin_of_image|>",
    "image_end": "<|end_of_image|>",
    "video_start": "<|begin_of_video|>",
    "video_end": "<|end_of_video|>",
}
GLM_IDS = {
    "image_token_id": "<|image|>",
    "video_token_id": "<|video|>",
    "image_start_token_id": "<|begin_of_image|>",
    "image_end_token_id": "<|end_of_image|>",
    "video_start_token_id": "<|begin_of_video|>",
    "video_end_token_id": "<|end_of_video|>",
}


def _glm(config_type: Any, images: Any, processor: Any, videos: Any) -> Callable[[Any], tuple[Any, Any]]:
    def built(words: Any) -> tuple[Any, Any]:
        tower = {
            "depth": 2,
            "hidden_size": HIDDEN,
            "num_heads": 2,
            "intermediate_size": 2 * HIDDEN,
            "out_hidden_size": HIDDEN,
            "image_size": 112,
            "initializer_range": 0.1,
        }
        text = decoder(words, rope_parameters=mrope(partial_rotary_factor=1.0)) | {"model_type": "glm4v_text"}
        config = config_type(text_config=text, vision_config=tower, tie_word_embeddings=True, **ids(words, **GLM_IDS))
        size = {"shortest_edge": 28 * 28, "longest_edge": 112 * 112 * 2}
        return config, processor(images(size=size), words, videos(), words.chat_template)

    return built


# --- SigLIP towers with tiles -----------------------------------------------------------------------------------------

IDEFICS_TOKENS = {
    "image_token": "<image>",
    "fake_image_token": "<fake_token_around_image>",
    "end_of_utterance_token": "<end_of_utterance>",
    "global_image_token": "<global-img>",
    "video_token": "<video>",
    **{f"tile_{r}_{c}": f"<row_{r}_col_{c}>" for r in range(1, 4) for c in range(1, 4)},
}


def _idefics3(words: Any) -> tuple[Any, Any]:
    images = hf.Idefics3ImageProcessorPil(size={"longest_edge": 2 * PIXELS}, max_image_size={"longest_edge": PIXELS})
    config = hf.Idefics3Config(
        text_config=decoder(words, model_type="llama"),
        vision_config=vision(image_size=PIXELS, patch_size=14),
        scale_factor=2,
        tie_word_embeddings=True,
        pad_token_id=words.pad_token_id,
        **ids(words, image_token_id="<image>"),
    )
    return config, hf.Idefics3Processor(images, words, image_seq_len=4, chat_template=words.chat_template)


def _smolvlm(words: Any) -> tuple[Any, Any]:
    images = hf.SmolVLMImageProcessorPil(size={"longest_edge": 2 * PIXELS}, max_image_size={"longest_edge": PIXELS})
    config = hf.SmolVLMConfig(
        text_config=decoder(words, model_type="llama"),
        vision_config=vision(image_size=PIXELS, patch_size=14),
        scale_factor=2,
        tie_word_embeddings=True,
        pad_token_id=words.pad_token_id,
        **ids(words, image_token_id="<image>"),
    )
    videos = hf.SmolVLMVideoProcessor()
    return config, hf.SmolVLMProcessor(images, words, videos, image_seq_len=4, chat_template=words.chat_template)


def _internvl(words: Any) -> tuple[Any, Any]:
    config = hf.InternVLConfig(
        text_config=decoder(words, model_type="qwen2"),
        vision_config=vision(image_size=[PIXELS, PIXELS], patch_size=[14, 14]),
        image_seq_length=4,
        downsample_ratio=0.5,
        **ids(words, image_token_id="<IMG_CONTEXT>"),
    )
    images = hf.GotOcr2ImageProcessorPil(
        size={"height": PIXELS, "width": PIXELS}, crop_to_patches=True, min_patches=1, max_patches=4
    )
    videos = hf.InternVLVideoProcessor()
    return config, hf.InternVLProcessor(images, words, videos, image_seq_length=4, chat_template=words.chat_template)


def _llava_onevision(words: Any) -> tuple[Any, Any]:
    grid = [[PIXELS, PIXELS], [PIXELS, 2 * PIXELS], [2 * PIXELS, PIXELS]]
    config = hf.LlavaOnevisionConfig(
        text_config=decoder(words, model_type="qwen2"),
        vision_config=vision(image_size=PIXELS, patch_size=14, model_type="siglip_vision_model", vision_use_head=False),
        image_grid_pinpoints=grid,
        tie_word_embeddings=True,
        **ids(words, image_token_index="<image>", video_token_index="<video>"),
    )
    images = hf.LlavaOnevisionImageProcessorPil(size={"height": PIXELS, "width": PIXELS}, image_grid_pinpoints=grid)
    return config, hf.LlavaOnevisionProcessor(
        images,
        words,
        hf.LlavaOnevisionVideoProcessor(),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=words.chat_template,
    )


# --- Gemma ------------------------------------------------------------------------------------------------------------


def _gemma3(words: Any) -> tuple[Any, Any]:
    text = decoder(
        words,
        num_hidden_layers=3,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        sliding_window=16,
        query_pre_attn_scalar=16,
    )
    config = hf.Gemma3Config(
        text_config=text,
        vision_config=vision(image_size=PIXELS, patch_size=14),
        mm_tokens_per_image=4,
        **ids(words, boi_token_index="<start_of_image>", eoi_token_index="<end_of_image>"),
        **ids(words, image_token_index="<image_soft_token>"),
    )
    images = hf.Gemma3ImageProcessorPil(size={"height": PIXELS, "width": PIXELS})
    return config, hf.Gemma3Processor(images, words, chat_template=words.chat_template, image_seq_length=4)


def _gemma4(words: Any) -> tuple[Any, Any]:
    text = decoder(
        words,
        num_hidden_layers=3,
        layer_types=["sliding_attention", "full_attention", "full_attention"],
        sliding_window=16,
        global_head_dim=16,
        num_global_key_value_heads=1,
        vocab_size_per_layer_input=len(words),
        hidden_size_per_layer_input=8,
    )
    config = hf.Gemma4Config(
        text_config=text,
        vision_config=vision(head_dim=16, num_key_value_heads=2, position_embedding_size=64, pooling_kernel_size=2),
        audio_config=None,
        **ids(words, boi_token_id="<|image>", eoi_token_id="<image|>", image_token_id="<|image|>"),
        **ids(words, video_token_id="<|video|>", audio_token_id="<|audio|>", boa_token_id="<|audio>"),
        **ids(words, eoa_token_index="<audio|>"),
    )
    images = hf.Gemma4ImageProcessorPil(max_soft_tokens=70, pooling_kernel_size=2)
    return config, hf.Gemma4Processor(
        hf.Gemma4AudioFeatureExtractor(),
        images,
        words,
        hf.Gemma4VideoProcessor(),
        chat_template=words.chat_template,
        image_seq_length=70,
    )


# --- MiniCPM ----------------------------------------------------------------------------------------------------------

MINICPM_TOKENS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "image_start_token": "<image>",
    "image_end_token": "</image>",
    "slice_start_token": "<slice>",
    "slice_end_token": "</slice>",
    "image_id_start_token": "<image_id>",
    "image_id_end_token": "</image_id>",
}


def _minicpm(words: Any) -> tuple[Any, Any]:
    text = decoder(
        words,
        model_type="qwen3_5_text",
        num_hidden_layers=3,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        linear_num_key_heads=1,
        linear_num_value_heads=2,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 1.0},
    )
    config = hf.MiniCPMV4_6Config(
        text_config=text,
        vision_config=vision(image_size=112, patch_size=14, insert_layer_id=0),
        insert_layer_id=0,
        image_size=112,
        tie_word_embeddings=True,
        **ids(words, image_token_id="<|image_pad|>", video_token_id="<|video_pad|>"),
    )
    images = hf.MiniCPMV4_6ImageProcessorPil(scale_resolution=112, max_slice_nums=4)
    videos = hf.MiniCPMV4_6VideoProcessor(scale_resolution=112)
    return config, hf.MiniCPMV4_6Processor(images, videos, words, words.chat_template)


# --- Mistral, Liquid --------------------------------------------------------------------------------------------------

PIXTRAL_TOKENS = {"picture": "[IMG]", "row_end": "[IMG_BREAK]", "picture_end": "[IMG_END]"}
LFM2_TOKENS = {
    "image_token": "<image>",
    "image_start_token": "<|image_start|>",
    "image_end_token": "<|image_end|>",
    "image_thumbnail": "<|img_thumbnail|>",
}


def _mistral3(words: Any) -> tuple[Any, Any]:
    config = hf.Mistral3Config(
        text_config=decoder(words, model_type="mistral", sliding_window=None),
        vision_config=vision(image_size=2 * PIXELS, patch_size=14, model_type="pixtral", head_dim=HIDDEN // HEADS),
        spatial_merge_size=2,
        vision_feature_layer=-1,
        tie_word_embeddings=True,
        **ids(words, image_token_index="[IMG]"),
    )
    images = hf.PixtralImageProcessorPil(size={"longest_edge": 2 * PIXELS}, patch_size=14)
    return config, hf.PixtralProcessor(
        images, words, patch_size=14, spatial_merge_size=2, chat_template=words.chat_template
    )


def _lfm2(words: Any) -> tuple[Any, Any]:
    layers = ["conv", "full_attention", "conv"]
    config = hf.Lfm2VlConfig(
        text_config=decoder(words, model_type="lfm2", num_hidden_layers=3, layer_types=layers),
        vision_config=vision(num_patches=64, patch_size=14, model_type="siglip2_vision_model", vision_use_head=False),
        downsample_factor=2,
        tile_size=PIXELS,
        tie_word_embeddings=True,
        **ids(words, image_token_id="<image>"),
    )
    images = hf.Lfm2VlImageProcessor(
        encoder_patch_size=14,
        tile_size=PIXELS,
        min_image_tokens=2,
        max_image_tokens=16,
        max_num_patches=64,
        do_image_splitting=False,
    )
    return config, hf.Lfm2VlProcessor(images, words, chat_template=words.chat_template)


# --- Ovis -------------------------------------------------------------------------------------------------------------

OVIS_INDICATORS = ("<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>")
OVIS_TOKENS = {"image_token": "<image>", "atom": "<IMG_ATOM>"} | {token.strip("<>"): token for token in OVIS_INDICATORS}


def _ovis2(words: Any) -> tuple[Any, Any]:
    tower = hf.Ovis2VisionConfig(
        **vision(image_size=PIXELS, patch_size=14),
        vocab_size=64,
        hidden_stride=2,
        num_visual_indicator_tokens=len(OVIS_INDICATORS),
    )
    config = hf.Ovis2Config(
        text_config=decoder(words, model_type="qwen2"),
        vision_config=tower,
        hidden_size=HIDDEN,
        vocab_size=len(words),
        visual_indicator_token_ids=words.convert_tokens_to_ids(OVIS_INDICATORS),
        tie_word_embeddings=True,
        **ids(words, image_token_id="<IMG_ATOM>"),
    )
    images = hf.Ovis2ImageProcessorPil(size={"height": PIXELS, "width": PIXELS})
    return config, hf.Ovis2Processor(images, words, chat_template=words.chat_template, image_seq_length=4)


# --- what is refused --------------------------------------------------------------------------------------------------

AYA_TOKENS = {
    "image_token": "<image>",
    "patch": "<|IMG_PATCH|>",
    "start": "<|START_OF_IMG|>",
    "end": "<|END_OF_IMG|>",
    "row_end": "<|IMG_LINE_BREAK|>",
    "tile": "TILE",
    "whole": "TILE_GLOBAL",
}
LLAMA4_TOKENS = {
    "picture": "<|image|>",
    "start": "<|image_start|>",
    "end": "<|image_end|>",
    "patch": "<|patch|>",
    "x": "<|tile_x_separator|>",
    "y": "<|tile_y_separator|>",
}


def _cohere_parts(words: Any) -> dict[str, Any]:
    """What Cohere's two families have in common."""
    sees = {"image_size": PIXELS, "patch_size": 14, "model_type": "siglip_vision_model", "vision_use_head": False}
    return {
        "text_config": decoder(words, model_type="cohere2"),
        "vision_config": vision(**sees),
        "downsample_factor": 2,
        "alignment_intermediate_size": 2 * HIDDEN,
        "tie_word_embeddings": True,
    }


def _aya(words: Any) -> tuple[Any, Any]:
    config = hf.AyaVisionConfig(
        **_cohere_parts(words),
        **ids(words, image_token_index="<|IMG_PATCH|>"),
    )
    images = hf.GotOcr2ImageProcessorPil(size={"height": PIXELS, "width": PIXELS})
    return config, hf.AyaVisionProcessor(
        images,
        words,
        patch_size=14,
        img_size=PIXELS,
        downsample_factor=2,
        image_token="<|IMG_PATCH|>",
        chat_template=words.chat_template,
    )


def _llama4(words: Any) -> tuple[Any, Any]:
    """Its processor makes pixels of bfloat16 whatever the weights are."""
    size = {"pixel_shuffle_ratio": 0.5, "vision_output_dim": 64, "projector_input_dim": 64, "projector_output_dim": 64}
    config = hf.Llama4Config(
        text_config=decoder(words, intermediate_size_mlp=64, num_local_experts=2, attention_chunk_size=64),
        vision_config=vision(image_size=PIXELS, patch_size=14, intermediate_size=4 * HIDDEN, **size),
        tie_word_embeddings=False,
        **ids(words, boi_token_index="<|image_start|>", eoi_token_index="<|image_end|>", image_token_index="<|patch|>"),
    )
    images = hf.Llama4ImageProcessor(size={"height": PIXELS, "width": PIXELS}, max_patches=4)
    return config, hf.Llama4Processor(
        images, words, patch_size=14, pixel_shuffle_ratio=0.5, chat_template=words.chat_template
    )


def _cohere2(words: Any) -> tuple[Any, Any]:
    """What its processor calls patch_size are the tokens along a tile's side."""
    config = hf.Cohere2VisionConfig(
        **_cohere_parts(words),
        **ids(words, image_token_id="<|IMG_PATCH|>"),
    )
    images = hf.Cohere2VisionImageProcessor(size={"height": PIXELS, "width": PIXELS}, patch_size=2)
    return config, hf.Cohere2VisionProcessor(images, words, chat_template=words.chat_template)


def _paligemma(words: Any) -> tuple[Any, Any]:
    """Its prompts are read in both directions."""
    config = hf.PaliGemmaConfig(
        text_config=decoder(words, model_type="gemma"),
        vision_config=vision(image_size=PIXELS, patch_size=14, model_type="siglip_vision_model", vision_use_head=False),
        projection_dim=HIDDEN,
        hidden_size=HIDDEN,
        tie_word_embeddings=True,
        **ids(words, image_token_index="<image>"),
    )
    images = hf.SiglipImageProcessorPil(size={"height": PIXELS, "width": PIXELS})
    images.image_seq_length = 16
    words.add_special_tokens({"bos_token": "<|im_start|>"})
    return config, hf.PaliGemmaProcessor(images, words, chat_template=words.chat_template)


COHERE_TOKENS = {
    "image_token": "<|IMG_PATCH|>",
    "boi_token": "<|START_OF_IMG|>",
    "eoi_token": "<|END_OF_IMG|>",
    "img_line_break_token": "<|IMG_LINE_BREAK|>",
}
GEMMA_TOKENS = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
GEMMA4_TOKENS = {
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
    "image_token": "<|image|>",
    "audio_token": "<|audio|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
    "video": "<|video|>",
}
INTERN_TOKENS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
LLAVA_TOKENS = {"image_token": "<image>", "video_token": "<video>"}
GLM4V = _glm(hf.Glm4vConfig, hf.Glm4vImageProcessorPil, hf.Glm4vProcessor, hf.Glm4vVideoProcessor)
GLM46V = _glm(hf.Glm46VConfig, hf.Glm46VImageProcessorPil, hf.Glm46VProcessor, hf.Glm46VVideoProcessor)

FAMILIES = (
    Family("Qwen2-VL", "qwen2_vl", QWEN_IMAGE, QWEN_TOKENS, _qwen2),
    Family("Qwen3-VL", "qwen3_vl", QWEN_IMAGE, QWEN_TOKENS, _qwen3),
    Family("Qwen3.5", "qwen3_5", QWEN_IMAGE, QWEN_TOKENS, _qwen3_5),
    Family("GLM-4V", "glm4v", GLM_IMAGE, GLM_TOKENS, GLM4V),
    Family("GLM-4.6V", "glm46v", GLM_IMAGE, GLM_TOKENS, GLM46V),
    Family("Idefics3", "idefics3", "<image>", IDEFICS_TOKENS, _idefics3),
    Family("SmolVLM", "smolvlm", "<image>", IDEFICS_TOKENS, _smolvlm, needs="num2words"),
    Family("InternVL", "internvl", "<IMG_CONTEXT>", INTERN_TOKENS, _internvl),
    Family("Gemma 3", "gemma3", "<start_of_image>", GEMMA_TOKENS, _gemma3),
    Family("Gemma 4", "gemma4", "<|image|>", GEMMA4_TOKENS, _gemma4),
    Family(
        "LLaVA-OneVision",
        "llava_onevision",
        "<image>",
        {"image_token": "<image>", "video_token": "<video>"},
        _llava_onevision,
    ),
    Family("MiniCPM-V 4.6", "minicpmv4_6", "<|image_pad|>", MINICPM_TOKENS, _minicpm),
    Family("Mistral 3", "mistral3", "[IMG]", PIXTRAL_TOKENS, _mistral3),
    Family("LFM2-VL", "lfm2_vl", "<image>", LFM2_TOKENS, _lfm2),
    Family("Ovis2", "ovis2", "<image>", OVIS_TOKENS, _ovis2),
)
REFUSED = (
    Family("Aya Vision", "aya_vision", "<image>", AYA_TOKENS, _aya),
    Family("Llama 4", "llama4", "<|image|>", LLAMA4_TOKENS, _llama4),
    Family("Command A Vision", "cohere2_vision", "<|IMG_PATCH|>", COHERE_TOKENS, _cohere2),
)
"""Families whose log-probs TRL computes otherwise than the model, or not at all."""
UNREADABLE = (Family("PaliGemma", "paligemma", "<image>", {"image_token": "<image>"}, _paligemma),)
"""Families that read their prompts otherwise than they read what they write."""
