"""Parameters are counted without weights, and the formula's parts are what models and optimizers really hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForImageTextToText
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLDecoderLayer, Qwen2_5_VLRotaryEmbedding

from racro.config import Captioner, Lora, Runtime, TrainerPlacement, UpdateSettings
from racro.models import memory, sizes
from racro.models.folders import EMBEDDED
from racro.models.memory import Need
from racro.models.sizes import Sizes, Tower
from racro.processes.gpus import GIB
from tests.support import qwen
from tests.support.examples import examples

PUBLISHED = {"3b": 3_754_622_976, "7b": 8_292_166_656, "32b": 33_452_718_336}
"""Numbers of parameters of the checkpoints on Hugging Face."""


def counted(folder: Path, lora: Lora | None = None, **update: Any) -> Sizes:
    return sizes.captioner(folder, lora, UpdateSettings(**update).freeze)


def need(found: Sizes, lora: Lora | None = None, config: UpdateSettings | None = None, **place: Any) -> Need:
    runtime = Runtime(trainer=TrainerPlacement(**place))
    return memory.trainer(found, Captioner(lora=lora), config or UpdateSettings(), runtime)


def on(count: int) -> dict[str, Any]:
    return {"gpus": tuple(range(count)), "shard": "fsdp"}


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_models_have_their_published_sizes(size: str, tmp_path: Path) -> None:
    folder = qwen.captioner_folder(size, tmp_path)
    assert counted(folder).base == counted(folder).trained == PUBLISHED[size]
    assert sizes.parameters(folder) == PUBLISHED[size]
    assert list(folder.iterdir()) == [folder / "config.json"], "no weights were there"


def test_the_embedded_models_have_as_many_as_their_files() -> None:
    model = AutoModelForImageTextToText.from_pretrained(EMBEDDED / "captioner")
    found = counted(EMBEDDED / "captioner")
    assert found.trained == found.base == sum(value.numel() for value in model.parameters())
    assert found.frozen == 0 and not found.adapted
    assert found.head == model.get_output_embeddings().weight.numel()
    language, vision = found.towers
    text, images = model.config.text_config, model.config.vision_config
    assert (language.layers, language.hidden) == (text.num_hidden_layers, text.hidden_size)
    assert (vision.layers, vision.hidden, vision.positions) == (images.depth, images.hidden_size, 4)
    assert vision.trained
    reasoner = sizes.parameters(EMBEDDED / "reasoner")
    assert reasoner == sum(value.numel() for value in model.model.language_model.parameters()), "its decoder"


def test_what_is_frozen_has_neither_gradients_nor_moments() -> None:
    folder = EMBEDDED / "captioner"
    everything, part = counted(folder), counted(folder, freeze=("vision",))
    assert part.trained + part.frozen == everything.trained
    vision = part.towers[1]
    assert part.frozen > 0 and not vision.trained
    assert need(part).parts["gradients"] == 4 * part.trained
    assert need(part).parts["weights"] == 4 * everything.trained, "in float32 all the same"


def test_an_adapter_is_all_that_is_trained() -> None:
    folder, lora = EMBEDDED / "captioner", Lora(rank=8)
    found = counted(folder, lora)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    names = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    expected = sum(
        8 * (linear.in_features + linear.out_features)
        for name, linear in model.model.language_model.named_modules()
        if name.rpartition(".")[2] in names
    )
    assert found.adapted and found.trained == expected and found.frozen == found.base
    parts = need(found, lora).parts
    assert parts["weights"] == 4 * found.trained + 2 * found.frozen
    assert parts["reference"] == 0, "the model without its adapter"


def test_training_a_7b_captioner(tmp_path: Path) -> None:
    """By hand: 16 bytes for each parameter, and 2 for the reference."""
    found = counted(qwen.captioner_folder("7b", tmp_path))
    one = need(found)
    assert one.certain == 18 * PUBLISHED["7b"]
    assert 138 < one.certain / GIB < 140
    eight = need(found, **on(8))
    assert eight.certain == pytest.approx(one.certain / 8, abs=8)
    assert eight.likely < 40 * GIB, "fits into a GPU of 80 GB"
    small = need(found, config=UpdateSettings(optimizer="adamw_8bit", beta=0))
    assert small.certain == 10 * PUBLISHED["7b"]
    assert need(found, optimizer="offload").certain == 10 * PUBLISHED["7b"]


def test_the_config_of_a_model_on_hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the local cache, and only if asked for it is downloaded; without a network nothing is known."""
    named = Captioner(model="somebody/something")
    assert sizes.config_folder(named) is None
    file = qwen.captioner_folder("tiny", tmp_path) / "config.json"
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(file))
    assert sizes.config_folder(named) is None
    assert sizes.config_folder(named, download=True) == file.parent

    def away(*_: Any, **__: Any) -> str:
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", away)
    assert sizes.config_folder(named, download=True) is None


tower = st.builds(
    Tower,
    layers=st.integers(1, 80),
    hidden=st.integers(64, 8192),
    width=st.integers(64, 200_000),
    positions=st.sampled_from([1.0, 4.0]),
    trained=st.booleans(),
)
model = st.builds(
    Sizes,
    trained=st.integers(1, 10**11),
    frozen=st.integers(0, 10**11),
    base=st.integers(10**6, 10**11),
    adapted=st.booleans(),
    layer=st.integers(1, 10**9),
    rest=st.integers(1, 10**9),
    head=st.integers(0, 10**9),
    vocabulary=st.integers(256, 200_000),
    towers=st.tuples(tower, tower),
)


@settings(max_examples=examples(200), deadline=None)
@given(model, st.integers(2, 64), st.integers(256, 65536), st.booleans())
def test_the_need_follows_what_it_is_made_of(found: Sizes, count: int, tokens: int, checkpointed: bool) -> None:
    runtime = Runtime(trainer=TrainerPlacement(tokens=tokens), gradient_checkpointing=checkpointed)
    captioner, config = Captioner(), UpdateSettings()
    one = memory.trainer(found, captioner, config, runtime)
    assert 0 < one.certain < one.likely == sum(one.parts.values())
    assert min(one.parts.values()) >= 0
    divided = memory.trainer(found, captioner, config, memory.with_gpus(runtime, count))
    assert abs(divided.certain * count - one.certain) <= 4 * count, "each has its share of all that is certain"
    more = runtime.model_copy(update={"trainer": TrainerPlacement(tokens=tokens + 1000)})
    assert memory.trainer(found, captioner, config, more).likely >= one.likely
    less = memory.trainer(found, captioner, config, runtime.model_copy(update={"gradient_checkpointing": True}))
    if all(tower.width * memory.STORED["bfloat16"] > 8 * tower.hidden and tower.layers > 2 for tower in found.towers):
        assert less.parts["activations"] <= one.parts["activations"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_what_a_layer_stores_is_counted(dtype: str) -> None:
    """With torch's hooks, on a layer of Qwen2.5-VL in the proportions of the 7B model, within a sixth."""
    text = qwen.config("7b").text_config
    text.hidden_size, text.intermediate_size, text.num_attention_heads, text.num_key_value_heads = 448, 2368, 14, 2
    text.rope_parameters["mrope_section"] = [4, 6, 6]
    text._attn_implementation = "sdpa"
    layer, rotary = Qwen2_5_VLDecoderLayer(text, 0), Qwen2_5_VLRotaryEmbedding(text)
    tokens = 256
    stored: dict[int, int] = {}
    weights = {value.untyped_storage().data_ptr() for value in layer.parameters()}

    def keep(value: torch.Tensor) -> torch.Tensor:
        place = value.untyped_storage()
        if place.data_ptr() not in weights and value.shape[-2:] != (tokens, tokens):
            stored[place.data_ptr()] = place.nbytes()
            alive.append(value)
        return value

    alive: list[torch.Tensor] = []
    hidden = torch.randn(1, tokens, text.hidden_size, requires_grad=True)
    positions = torch.arange(tokens).expand(3, 1, -1)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value),
        torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"),
    ):
        layer(hidden, position_embeddings=rotary(hidden, positions))
    linear = [module for module in layer.modules() if isinstance(module, torch.nn.Linear)]
    copies = sum(value.numel() * 2 for value in layer.parameters() if value.dim() == 2) if dtype == "bfloat16" else 0
    width = sum(module.in_features + module.out_features for module in linear)
    expected = width * memory.STORED[dtype] * tokens
    assert sum(stored.values()) - copies == pytest.approx(expected, rel=0.15)


def test_adamw_holds_what_the_formula_says() -> None:
    weights = [torch.nn.Parameter(torch.randn(64, 32)), torch.nn.Parameter(torch.randn(100))]
    optimizer = torch.optim.AdamW(weights)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    moments = sum(v.nbytes for state in optimizer.state.values() for k, v in state.items() if k != "step")
    assert moments == memory.MOMENTS["adamw"] * sum(weight.numel() for weight in weights)
