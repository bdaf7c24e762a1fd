"""Tiny random reasoners of the families in docs/models.md, and of the ways in which tokenizers and templates differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as hf

from tests.support.families import FAMILIES, build, decoder, template, tokenizer

REFUSES_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
BOS = "{{ bos_token }}"


@dataclass(frozen=True)
class Reasoner:
    """One kind of reasoner."""

    name: str
    special: str
    """What is special about it, for docs/models.md."""
    config: Callable[[Any], Any] | None = None
    """Tokenizer -> configuration; None: a vision-language model."""
    template: str = template("")
    pad: bool = True
    bos: bool = False


def _llama(words: Any) -> Any:
    return hf.LlamaConfig(**decoder(words, tie_word_embeddings=False))


def _qwen3(words: Any) -> Any:
    return hf.Qwen3Config(**decoder(words))


def _smollm3(words: Any) -> Any:
    return hf.SmolLM3Config(**decoder(words))


def _gemma3(words: Any) -> Any:
    kinds = ["sliding_attention", "full_attention"]
    return hf.Gemma3TextConfig(**decoder(words, layer_types=kinds, sliding_window=16, query_pre_attn_scalar=16))


def _gpt_oss(words: Any) -> Any:
    kinds = ["sliding_attention", "full_attention"]
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
    return hf.GptOssConfig(**decoder(words, layer_types=kinds, sliding_window=16, **experts))


def _qwen3_5(words: Any) -> Any:
    linear = {"linear_key_head_dim": 16, "linear_value_head_dim": 16, "linear_num_key_heads": 1}
    kinds = ["linear_attention", "full_attention"]
    return hf.Qwen3_5TextConfig(**decoder(words, layer_types=kinds, linear_num_value_heads=2, **linear))


REASONERS = (
    Reasoner("Llama", "output layer of its own", _llama),
    Reasoner("Qwen3", "", _qwen3),
    Reasoner("SmolLM3", "", _smollm3),
    Reasoner("Gemma 3, text", "sliding windows", _gemma3),
    Reasoner("gpt-oss", "experts, sliding windows", _gpt_oss),
    Reasoner("Qwen3.5, text", "recurrent states", _qwen3_5),
    Reasoner("no padding token", "pads with its end token", _llama, pad=False),
    Reasoner("beginning-of-text in the template", "added once", _llama, template=BOS + template(""), bos=True),
    Reasoner(
        "template without a system role", "folded into the user's turn", _qwen3, template=REFUSES_SYSTEM + template("")
    ),
    Reasoner("Qwen3-VL as reasoner", "a vision-language model without images"),
)


def build_reasoner(kind: Reasoner, folder: Path) -> Path:
    """Write the model and its tokenizer to `folder`."""
    if kind.config is None:
        return build(next(family for family in FAMILIES if family.kind == "qwen3_vl"), folder)
    words = tokenizer({}, "")
    words.chat_template = kind.template
    if kind.bos:
        words.bos_token = "<|im_start|>"
        words.add_bos_token = True
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(kind.config(words))
    model.generation_config = hf.GenerationConfig(eos_token_id=words.eos_token_id)
    model.save_pretrained(folder)
    if not kind.pad:
        words.pad_token = None
    words.save_pretrained(folder)
    return folder
