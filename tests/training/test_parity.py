"""Before training, engine and trainer are held against each other; what differs stops the run."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from PIL import Image

from racro.config import Captioner, EmbeddedProblems, RolloutSettings, Transformers
from racro.data import problems
from racro.engines.local.transformers import TransformersEngine as Engine
from racro.models.folders import EMBEDDED
from racro.schema import ImageRef
from racro.training.parity import Parity, ParityBroken, check

CAPTIONER = EMBEDDED / "captioner"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    base = tmp_path_factory.mktemp("problems")
    return problems.load(EmbeddedProblems(count=16), str(base), seed=0).problems, str(base)


def compare(table, engine_folder: Path, temperature: float = 1.0) -> Parity:
    rows, base = table
    rollout = RolloutSettings(temperature=temperature, top_p=0.9, max_tokens=12)
    captioner = Captioner(model="embedded", dtype="float32", engine=Transformers())
    engine = Engine.captioner(str(engine_folder), "float32", "cpu", 4)
    return check(rows, base, "policy", CAPTIONER, engine, captioner, rollout, 1e-3, 0, "cpu", 60.0)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_same_model_agrees_to_rounding(table, temperature):
    assert {len(problem.images) for problem in table[0]} == {1, 2}
    found = compare(table, CAPTIONER, temperature)
    assert found.captions == 32
    assert found.tokens > 32
    assert found.gap_mean < 1e-4


def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CAPTIONER, tmp_path / "other"))


def test_other_weights_are_noticed(table, tmp_path):
    other = copied(tmp_path)
    weights = safetensors.torch.load_file(other / "model.safetensors")
    torch.manual_seed(0)
    moved = {k: v + 0.02 * v.std() * torch.randn_like(v) if v.ndim == 2 else v for k, v in weights.items()}
    safetensors.torch.save_file(moved, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ParityBroken, match=r"same prompts, but their log-probs differ by .*allowed: 0.0001.* weights"):
        compare(table, other)


def test_another_chat_template_is_noticed(table, tmp_path):
    other = copied(tmp_path)
    template = other / "chat_template.jinja"
    template.write_text("<|im_start|>" + template.read_text())
    with pytest.raises(ParityBroken, match=r"encode problem .* differently: .* first difference at 1;"):
        compare(table, other)


def test_other_positions_are_noticed(table, tmp_path):
    other = copied(tmp_path)
    config = json.loads((other / "config.json").read_text())
    rope = config["text_config"]["rope_parameters"]
    rope["mrope_section"] = [sum(rope["mrope_section"]), 0, 0]  # positions of text, as if there were no image
    (other / "config.json").write_text(json.dumps(config))
    large = tmp_path / "large.png"  # positions of an image of 4 tokens hardly matter
    Image.effect_noise((448, 224), 100).convert("RGB").save(large)
    image = ImageRef(path=str(large), sha256=hashlib.sha256(large.read_bytes()).hexdigest())
    rows = [problem.model_copy(update={"images": (image,)}) for problem in table[0] if len(problem.images) == 1]
    compare((rows, ""), CAPTIONER)
    with pytest.raises(ParityBroken, match=r"same prompts, but their log-probs differ by .* positions"):
        compare((rows, ""), other)
