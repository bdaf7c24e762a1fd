"""`update.freeze`: frozen parts stay bit-equal, the others move, and the policy is whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file

from racro import config
from racro.models import parts
from racro.models.folders import EMBEDDED
from racro.models.parts import NoSuchPart
from tests.support import families
from tests.support.tiny_training import TinyTraining
from tests.support.updating import optimizer_state

CAPTIONER = EMBEDDED / "captioner"
PLACES = {"vision": "model.visual.", "merger": "model.visual.merger."}


def part_of(name: str) -> str:
    """By the names of Qwen2.5-VL's checkpoints."""
    return "merger" if "visual.merger." in name else "vision" if "visual." in name else "language"


@pytest.mark.parametrize(
    ("freeze", "checkpointing"),
    [(("vision",), False), (("merger",), False), (("merger", "vision"), False), (("merger", "vision"), True)],
)
def test_frozen_parts_stay_to_the_last_bit_and_the_others_move(
    tiny: TinyTraining,
    tmp_path: Path,
    freeze: tuple[config.Part, ...],
    checkpointing: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over two updates; the second goes on with the optimizer's state of the first."""
    from tests.support import tiny_training

    runtime = tiny_training.RUNTIME.model_copy(update={"gradient_checkpointing": checkpointing})
    monkeypatch.setattr(tiny_training, "RUNTIME", runtime)
    first = tiny.update(tmp_path / "1", mini_batch=2, freeze=freeze)
    second = tiny.update(tmp_path / "2", mini_batch=2, policy=tmp_path / "1", step=int(first["steps"]), freeze=freeze)
    assert first["shared_prompts"] == 1.0 and second["grad_norm"] > 0
    before, after = (load_file(folder / "model.safetensors") for folder in (CAPTIONER, tmp_path / "2"))
    assert before.keys() == after.keys()
    moved: dict[str, list[bool]] = {}
    for name, value in before.items():
        moved.setdefault(part_of(name), []).append(not torch.equal(value.float(), after[name]))
    assert {part for part, changed in moved.items() if any(changed)} == {"vision", "merger", "language"} - set(freeze)
    trained = sum(len(changed) for part, changed in moved.items() if part not in freeze)
    assert len(optimizer_state(tmp_path / "2")) == trained


@pytest.mark.parametrize("family", families.FAMILIES, ids=lambda family: family.name)
def test_both_parts_are_found_in_every_family(family: families.Family, tmp_path: Path) -> None:
    """Neither overlaps the other, and neither has anything of the language model."""
    words = families.tokenizer(family.tokens, family.image)
    with torch.device("meta"):
        model = hf.AutoModelForImageTextToText.from_config(family.build(words)[0])
    found = {name: {id(value) for value in values} for name, values in parts.parts(model).items()}
    language = {id(value) for value in model.get_decoder().parameters()}
    assert found["vision"] and found["merger"] and not found["vision"] & found["merger"]
    assert not language & (found["vision"] | found["merger"])
    head = {id(value) for value in model.get_output_embeddings().parameters()}
    assert found["vision"] | found["merger"] | language | head == {id(value) for value in model.parameters()}


def test_a_part_that_is_not_there_and_an_adapter_are_refused_at_once(tmp_path: Path, tiny: TinyTraining) -> None:
    parts.require(CAPTIONER, ("vision", "merger"))
    with pytest.raises(NoSuchPart, match=r"update\.freeze: vision: Qwen2ForCausalLM has no part .*; leave it out"):
        parts.freeze(hf.Qwen2ForCausalLM.from_pretrained(EMBEDDED / "reasoner"), ("vision",))
    tiny.update(tmp_path / "adapter", mini_batch=4, lora=True)
    with pytest.raises(NoSuchPart, match=r"captioner\.model is an adapter, which never changes these parts"):
        parts.require(tmp_path / "adapter", ("vision",))
