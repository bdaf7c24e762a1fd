"""`captioner.max_pixels`: images take fewer tokens, alike for engine, trainer and whoever loads the policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from racro import config
from racro.embedded.world import CELL
from racro.engines.local.transformers import TransformersEngine
from racro.models import compatibility
from racro.models.folders import EMBEDDED, load_processor
from racro.models.pixels import NoPixelLimits, limit
from racro.training import parity
from tests.support import families
from tests.support.tiny_training import TinyTraining

CAPTIONER = EMBEDDED / "captioner"
HALF = (None, 2 * CELL * CELL)
"""Half of the pixels of the embedded world's images, which are four cells."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> TinyTraining:
    return TinyTraining(CAPTIONER, tmp_path_factory.mktemp("problems"), HALF)


def test_images_take_fewer_tokens_and_engine_and_trainer_agree(
    tiny: TinyTraining, small: TinyTraining, tmp_path: Path
) -> None:
    """The update itself compares prompt ids, and log-probs, with those of the engine."""
    whole, half = tiny.rollouts(CAPTIONER), small.rollouts(CAPTIONER)
    images = [len(problem.images) for problem in small.problems.values() for _ in range(4)]
    saved = [len(one.prompt_ids) - len(other.prompt_ids) for one, other in zip(whole, half, strict=True)]
    assert saved == [2 * count for count in images]
    assert small.parity().gap_mean <= 1e-4
    metrics = small.update(tmp_path / "policy", mini_batch=2)
    assert metrics["shared_prompts"] == 1.0 and metrics["logprob_gap"] <= 1e-4
    assert metrics["pixel_bytes_peak"] > 0 and small.moved(tmp_path / "policy") > 0
    alone = load_processor(tmp_path / "policy")  # as anyone loads it, without the recipe
    assert tokens(alone) == tokens(load_processor(CAPTIONER, HALF)) < tokens(load_processor(CAPTIONER))


def tokens(processor: Any, size: tuple[int, int] = (4 * CELL, CELL)) -> int:
    made = processor(images=[Image.new("RGB", size)], text=[processor.image_token], return_tensors="pt")
    return int(made["input_ids"].shape[1])


def test_an_engine_that_sees_another_size_breaks_parity(small: TinyTraining, monkeypatch: Any) -> None:
    whole = TransformersEngine.captioner(str(CAPTIONER), "float32", "cpu", 2)
    monkeypatch.setattr(small, "_engine", lambda folder: whole)
    with pytest.raises(parity.ParityBroken, match="with the same image sizes"):
        small.parity()


@pytest.mark.parametrize("family", families.FAMILIES, ids=lambda family: family.name)
def test_every_family_keeps_the_limit_or_is_refused_by_name(family: families.Family, tmp_path: Path) -> None:
    """In pixels of the image, whatever the family's processor counts."""
    folder = families.build(family, tmp_path)
    plain = load_processor(folder)
    width, height = 896, 448
    try:
        limited = load_processor(folder, (None, width * height // 4))
    except NoPixelLimits as error:
        assert "Qwen" not in family.name and "GLM" not in family.name
        assert str(error).startswith(f"captioner.max_pixels, min_pixels: {type(plain.image_processor).__name__} does")
        with pytest.raises(NoPixelLimits):
            compatibility.check("captioner", family.name, folder, {}, (100, None))
        return
    assert "Qwen" in family.name or "GLM" in family.name
    images = limited.image_processor
    made = images(images=[Image.new("RGB", (width, height))], return_tensors="pt")
    pixels = made["image_grid_thw"][0].prod().item() * images.patch_size**2
    assert 0.75 * width * height / 4 < pixels <= width * height / 4
    larger = load_processor(folder, (2 * width * height, 4 * width * height)).image_processor
    grown = larger(images=[Image.new("RGB", (width, height))], return_tensors="pt")
    assert grown["image_grid_thw"][0].prod().item() * images.patch_size**2 >= 2 * width * height


def test_limits_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match=r"min_pixels \(5\) is larger than max_pixels \(4\)"):
        config.Captioner(min_pixels=5, max_pixels=4)
    with pytest.raises(NoPixelLimits, match=r"captioner\.min_pixels is 99999999 and max_pixels \d+, one of them the"):
        limit(load_processor(CAPTIONER), (99999999, None))
