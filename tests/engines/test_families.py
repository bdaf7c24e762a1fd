"""Every captioner family of docs/models.md, as a tiny random model: captions, parity, updates, adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModelForImageTextToText

from racro.config import Lora, UpdateSettings
from racro.models import sizes
from racro.training.parity import ParityBroken
from tests.support.families import FAMILIES, REFUSED, Family, build
from tests.support.tiny_training import TinyTraining


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.kind)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyTraining:
    family: Family = request.param
    folder = build(family, tmp_path_factory.mktemp(family.kind))
    return TinyTraining(folder, tmp_path_factory.mktemp("problems"))


def test_engine_and_trainer_agree(trained: TinyTraining) -> None:
    found = trained.parity()
    assert found.gap_mean < 2e-5
    assert found.tokens > 100


def test_a_beginning_that_is_read_once_changes_nothing(trained: TinyTraining) -> None:
    """Families with layers that do not keep all tokens read each prompt whole."""
    once, whole = trained.captions(None), trained.captions(False)
    assert [made.token_ids for made in once] == [made.token_ids for made in whole]
    for made, expected in zip(once, whole, strict=True):
        assert made.logprobs == pytest.approx(expected.logprobs, abs=2e-5)


def test_several_steps_move_the_policy_and_the_next_iteration_goes_on_from_it(
    trained: TinyTraining, tmp_path: Path
) -> None:
    """The second one in a single step."""
    first = trained.update(tmp_path / "1", 2)
    assert first["steps"] == 2
    second = trained.update(tmp_path / "2", 4, policy=tmp_path / "1", step=2)
    assert second["steps"] == 1
    assert max(first["logprob_gap"], second["logprob_gap"]) < 2e-5
    assert second["kl"] > 0
    for policy in ("1", "2"):
        assert trained.moved(tmp_path / policy) > 1e-6


def test_an_adapter_changes_all_of_the_language_model(trained: TinyTraining, tmp_path: Path) -> None:
    metrics = trained.update(tmp_path / "a", 2, lora=True)
    assert metrics["logprob_gap"] < 2e-5
    adapted = trained.adapted_layers(tmp_path / "a")
    linear = trained.linear_layers()
    assert adapted == linear, f"left alone: {sorted(linear - adapted)[:4]}; others: {sorted(adapted - linear)[:4]}"


def test_its_parameters_are_counted(trained: TinyTraining) -> None:
    """Without weights, for the memory that a training needs."""
    freeze = UpdateSettings().freeze
    model = AutoModelForImageTextToText.from_pretrained(trained.folder)
    found, adapted = (sizes.captioner(trained.folder, lora, freeze) for lora in (None, Lora()))
    assert found.base == adapted.base == sum(value.numel() for value in model.parameters())
    assert [tower.trained for tower in found.towers] == [True, True], "language model and vision tower"
    assert [tower.trained for tower in adapted.towers] == [True, False]
    assert [tower.width for tower in adapted.towers] == [tower.width for tower in found.towers]


@pytest.mark.parametrize("family", REFUSED, ids=lambda family: family.kind)
def test_what_the_trainer_would_compute_otherwise_is_refused_before_the_first_iteration(
    family: Family, tmp_path: Path
) -> None:
    trained = TinyTraining(build(family, tmp_path / "model"), tmp_path)
    with pytest.raises(
        ParityBroken, match=rf"captioner\.model: .*model \({family.kind}\) .*use a model of another fam"
    ):
        trained.parity()
