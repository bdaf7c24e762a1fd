"""Four kinds of captioner that differ from Qwen2.5-VL in what a trainer can get wrong; all families: tests/engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.families import FAMILIES, build
from tests.support.tiny_training import TinyTraining

KINDS = {
    "gemma3": "sliding windows and token types",
    "qwen3_5": "recurrent states",
    "internvl": "tiles",
    "idefics3": "a decoder of another name, masks of pixels",
}


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.kind in KINDS], ids=lambda family: family.kind)
def test_the_trainer_computes_what_the_engine_recorded(family, tmp_path: Path) -> None:
    trained = TinyTraining(build(family, tmp_path / "model"), tmp_path)
    metrics = trained.update(tmp_path / "policy", mini_batch=2)
    assert metrics["steps"] == 2
    assert metrics["logprob_gap"] < 2e-5
    assert trained.moved(tmp_path / "policy") > 1e-6
