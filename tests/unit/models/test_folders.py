"""A model's digest covers its weights in any format; folders without weights that can be loaded are refused."""

from __future__ import annotations

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from racro.models.adapters import WEIGHTS
from racro.models.folders import (
    EMBEDDED,
    OTHER_WEIGHTS,
    READER_SUFFIXES,
    ModelNotFound,
    load_captioner,
    load_reasoner,
    max_positions,
    model_digest,
    model_folder,
)
from racro.models.making import NotWhole


def folder(place: Path, *weights: str) -> Path:
    """The embedded reasoner with files of other weights in place of its own."""
    place.mkdir()
    for file in (EMBEDDED / "reasoner").iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, place)
    for name in weights:
        (place / name).write_bytes(b"weights")
    return place


SHARDS = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin", "pytorch_model.bin.index.json")


@pytest.mark.parametrize("names", [("pytorch_model.bin",), SHARDS, *((f"model{s}",) for s in OTHER_WEIGHTS)])
def test_replaced_weights_are_another_model(tmp_path: Path, names: tuple[str, ...]) -> None:
    made = folder(tmp_path / "model", *names)
    before = model_digest(made)
    for name in names:
        (made / name).write_bytes(b"changed")
        assert model_digest(made) != before
        (made / name).write_bytes(b"weights")
    assert model_digest(made) == before


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index.json"])
def test_beside_safetensors_no_other_format_counts(tmp_path: Path, name: str) -> None:
    made = folder(tmp_path / "model", name)
    before = model_digest(made)
    for suffix in OTHER_WEIGHTS:
        (made / f"other{suffix}").write_bytes(b"x")
    assert model_digest(made) == before
    (made / name).write_bytes(b"changed")
    assert model_digest(made) != before


def test_a_folder_without_one_of_its_shards_is_refused(tmp_path: Path) -> None:
    made = folder(tmp_path / "model", *(name for name in SHARDS if name.endswith(".bin")))
    index = made / SHARDS[-1]
    index.write_text(json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}))
    assert model_folder(str(made), "reasoner") == made
    (made / SHARDS[1]).unlink()
    with pytest.raises(ModelNotFound, match=rf"reasoner.model: the folder .* lacks {SHARDS[1]}, which its index names"):
        model_folder(str(made), "reasoner")
    (made / "model.safetensors").write_bytes(b"weights")
    assert model_folder(str(made), "reasoner") == made, "what is loaded is whole"
    (made / "model.safetensors").unlink()
    index.write_text("{")
    with pytest.raises(ModelNotFound, match=r"lacks a readable pytorch_model\.bin\.index\.json"):
        model_folder(str(made), "reasoner")


@pytest.mark.parametrize("name", ["qwen.tiktoken", "vocab.bpe", "spiece.model", "merges.txt"])
def test_another_tokenizer_is_another_model(tmp_path: Path, name: str) -> None:
    made = folder(tmp_path / "model", WEIGHTS, name)
    before = model_digest(made)
    (made / "kept.json").mkdir()
    (made / "gone.json").symlink_to(tmp_path / "nowhere")
    assert model_digest(made) == before, "folders and links to nowhere hold nothing"
    (made / name).write_bytes(b"changed")
    assert model_digest(made) != before


def test_the_digests_of_the_embedded_models_are_those_of_their_recorded_files() -> None:
    """A root that was made with them must still be read."""
    assert model_digest(EMBEDDED / "captioner") == "32897a75de041280512e87d56765a5832e0559e6cdfe4e8b335e27b1e1eba518"


def test_weights_of_torch_are_loaded_and_counted(tmp_path: Path) -> None:
    made = folder(tmp_path / "model")
    torch.save(load_file(EMBEDDED / "reasoner" / "model.safetensors"), made / "pytorch_model.bin")
    assert model_folder(str(made), "reasoner") == made
    ours, theirs = (load_reasoner(place, "float32", torch.device("cpu")) for place in (made, EMBEDDED / "reasoner"))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("names", [(), ("model.gguf",), ("flax_model.msgpack", "tf_model.h5"), ("x.00.pth",)])
def test_a_folder_without_weights_that_can_be_loaded_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    made = folder(tmp_path / "model", *names)
    said = rf"reasoner.model: .*no weights that can be loaded \(found: {', '.join(names) or 'none'}\); save .*tensors"
    with pytest.raises(ModelNotFound, match=said) as caught:
        model_folder(str(made), "reasoner")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model.fp16.safetensors", "consolidated.safetensors", WEIGHTS])
def test_names_that_only_vllm_loads_are_no_captioner(tmp_path: Path, name: str) -> None:
    made = folder(tmp_path / "model", name)
    with pytest.raises(ModelNotFound, match=rf"captioner.model: .*\(found: {name}\); save the model as model.safe"):
        model_folder(str(made), "captioner")
    assert model_folder(str(made), "reasoner") == made


def test_how_a_model_reads_prompts_does_not_depend_on_its_weights(tmp_path: Path) -> None:
    first, second = (folder(tmp_path / name, "pytorch_model.bin") for name in "ab")
    (second / "pytorch_model.bin").write_bytes(b"others")
    (second / WEIGHTS).write_bytes(b"others")
    assert model_digest(first, READER_SUFFIXES) == model_digest(second, READER_SUFFIXES)
    (second / "chat_template.jinja").write_text("{{ messages }}")
    assert model_digest(first, READER_SUFFIXES) != model_digest(second, READER_SUFFIXES)


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({"max_position_embeddings": 9}, 9),
        ({"max_position_embeddings": 9, "text_config": {"max_position_embeddings": 5}}, 5),
        ({"text_config": {}}, None),
        ({}, None),
    ],
)
def test_positions_are_those_of_the_language_model(tmp_path: Path, config: object, positions: int | None) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert max_positions(tmp_path) == positions


def test_models_that_are_loaded_at_the_same_time_are_those_that_are_loaded_alone() -> None:
    """As a server does for two clients. transformers alone breaks so, and stays broken."""
    cpu, before = torch.device("cpu"), sys.getswitchinterval()
    jobs = [(load_captioner, "captioner", "float32"), (load_reasoner, "reasoner", "bfloat16")] * 3
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(len(jobs)) as pool:
            made = list(pool.map(lambda job: job[0](EMBEDDED / job[1], job[2], cpu).state_dict(), jobs))
    finally:
        sys.setswitchinterval(before)
    for weights, (load, name, dtype) in zip(made, jobs, strict=True):
        alone = load(EMBEDDED / name, dtype, cpu).state_dict()
        assert weights.keys() == alone.keys()
        assert all(torch.equal(value, alone[key]) and value.dtype == alone[key].dtype for key, value in weights.items())


@pytest.mark.parametrize(("role", "load"), [("captioner", load_captioner), ("reasoner", load_reasoner)])
def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path, role: str, load: Any) -> None:
    """Random values in their place would train and answer, badly."""
    shutil.copytree(EMBEDDED / role, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    weights = load_file(file)
    gone = next(name for name in sorted(weights) if name.endswith("self_attn.q_proj.weight"))
    del weights[gone]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(NotWhole, match=r"model: the checkpoint lacks 1 of the weights of Qwen2.*self_attn\.q_proj\.we"):
        load(tmp_path / "model", "float32", torch.device("cpu"))
