"""A captioner that cannot be trained is refused by its family's name, before anything is prepared, without weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.cli.checks import placement
from racro.config import Captioner, Reasoner, Recipe, Runtime
from racro.models.compatibility import UnsupportedModel, check
from racro.training.output_layer import MAX_GAP, OtherLogProbs, gap
from tasks.prepare import adopt_captioner
from tests.support.families import FAMILIES, REFUSED, UNREADABLE, Family, tokenizer


def folder(family: Family, place: Path) -> Path:
    """The family's small files, and weights that cannot be loaded."""
    config, processor = family.build(tokenizer(family.tokens, family.image))
    config.save_pretrained(place)
    processor.save_pretrained(place)
    (place / "model.safetensors").write_bytes(b"")
    return place


@pytest.mark.parametrize("family", REFUSED, ids=lambda family: family.kind)
def test_one_whose_log_probs_the_trainer_computes_otherwise(family: Family, tmp_path: Path) -> None:
    captioner = Captioner(model=str(folder(family, tmp_path)))
    with pytest.raises(OtherLogProbs, match=rf"^captioner\.model: .* \({family.kind}\) .*; use a model of another fam"):
        adopt_captioner.fn(captioner, Runtime(device="cpu"), ())
    adopt_captioner.fn(captioner, Runtime(device="cpu"))  # as an evaluation does, which trains nothing
    said = placement.models(Recipe(captioner=captioner, reasoner=Reasoner(model="embedded")))
    assert [said["captioner"].state, said["reasoner"].state] == ["problem", "ok"]
    assert family.kind in said["captioner"].found and said["captioner"].remedy.startswith("use a model of another")


@pytest.mark.parametrize("family", UNREADABLE, ids=lambda family: family.kind)
def test_one_that_reads_its_prompt_in_both_directions(family: Family, tmp_path: Path) -> None:
    with pytest.raises(
        UnsupportedModel, match=rf"^captioner\.model: .* \({family.kind}\) .*both directions.*; use one"
    ):
        check("captioner", "name", folder(family, tmp_path), {})


def test_one_with_an_encoder_for_its_prompt(tmp_path: Path) -> None:
    import transformers

    transformers.T5Gemma2Config().save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModel, match=r"^captioner\.model: .* \(t5gemma2\) has an encoder .*; use one"):
        check("captioner", "name", tmp_path, {})


def test_all_others_are_taken() -> None:
    for family in FAMILIES:
        config, _ = family.build(tokenizer(family.tokens, family.image))
        assert 0 < gap(config) < MAX_GAP, f"{family.name}: and that was really compared"
