"""An adapter is trained alone, served by every engine, swapped, digested with its model, and refused when damaged."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from flows.training import train
from racro.config import Captioner, Lora, loading
from racro.models.adapters import CONFIG, WEIGHTS, Adapter, BadAdapter
from racro.models.folders import TRAINER, load_captioner, model_digest, model_folder, torch_device
from racro.storage import artifacts
from racro.summary import Summary
from tasks.prepare import CannotTrain, adopt_captioner
from tasks.running import engines, observing
from tests.conftest import EMBEDDED_RECIPE, TINY
from tests.training.test_update import INITIAL, World

SMALL = (*TINY, "rollout.problems=16", "rollout.group_size=8", "evaluation.problems=64", "captioner.lora.rank=4")
LORA = Captioner(model="embedded", dtype="float32", lora=Lora(rank=4, alpha=8))
CPU = torch_device("cpu")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("problems"))


@pytest.fixture(scope="module")
def first(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """Adapter after one update of the embedded captioner, and its metrics."""
    out = tmp_path_factory.mktemp("adapter")
    return out, world.update(world.rollouts(INITIAL), INITIAL, out, 0, captioner=LORA)


def test_a_policy_is_an_adapter_and_nothing_else(first: tuple[Path, dict[str, float]]) -> None:
    folder, metrics = first
    assert {file.name for file in folder.iterdir()} == {CONFIG, WEIGHTS, TRAINER}
    adapter = Adapter.read(folder)
    assert adapter and (adapter.base, adapter.rank, adapter.scale) == ("embedded", 4, 2.0)
    second = [tensor for name, tensor in load_file(folder / WEIGHTS).items() if "lora_B" in name]
    assert len(second) == 7 * 3, "every linear layer of the language model, none of the vision tower"
    assert all(tensor.abs().max() > 1e-5 for tensor in second), "and all of them moved"
    assert metrics["logprob_gap"] < 1e-4


def test_the_next_update_goes_on_with_adapter_and_optimizer_and_the_model_is_the_reference(
    world: World, first: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    folder, before = first
    metrics = world.update(world.rollouts(folder, 1), folder, tmp_path / "next", int(before["steps"]), captioner=LORA)
    assert metrics["logprob_gap"] < 1e-4, "engine and trainer hold the same adapter"
    assert metrics["kl"] > 1e-5


def test_an_adapter_is_trained_further_and_is_then_the_reference(
    world: World, first: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    folder = first[0]
    captioner = Captioner(model=str(folder), dtype="float32")
    changes = {"captioner": captioner, "initial": folder, "learning_rate": 0.0}
    metrics = world.update(world.rollouts(folder, 1), folder, tmp_path / "same", 0, **changes)
    assert metrics["kl"] == pytest.approx(0.0, abs=1e-7)
    changes["learning_rate"] = 5e-4
    moved = world.update(world.rollouts(folder, 1), folder, tmp_path / "1", 0, **changes)
    rollouts = world.rollouts(tmp_path / "1", 2)
    after = world.update(rollouts, tmp_path / "1", tmp_path / "2", int(moved["steps"]), **changes)
    assert after["kl"] > 1e-5
    assert after["logprob_gap"] < 1e-4
    assert Adapter.read(tmp_path / "2").base == "embedded"  # type: ignore[union-attr]
    recipe = loading.load(EMBEDDED_RECIPE, [f"captioner.model={folder}", "captioner.lora.rank=4"])
    with pytest.raises(CannotTrain, match=r"^captioner\.lora: .* is an adapter already"):
        adopt_captioner.fn(recipe.captioner, recipe.runtime)


def test_the_digest_covers_adapter_and_model(first: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    shutil.copytree(INITIAL, base)
    shutil.copytree(first[0], adapter)
    config = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps({**config, "base_model_name_or_path": str(base)}))
    digests = [model_digest(adapter)]
    for file in (adapter / WEIGHTS, base / "model.safetensors"):
        weights = load_file(file)
        weights[min(weights)][0] += 0.5
        save_file(weights, file, {"format": "pt"})
        digests.append(model_digest(adapter))
    assert len(set(digests)) == 3


def edit(**changes: Any) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        config = {**json.loads((folder / CONFIG).read_text()), **changes}
        (folder / CONFIG).write_text(json.dumps(config))

    return change


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], Any]:
    def changed(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS, {"format": "pt"})

    return changed


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda folder: (folder / CONFIG).write_text("{"), r"adapter_config\.json: JSONDecodeError"),
        (edit(peft_type="IA3"), "not a LoRA adapter that names its model"),
        (edit(r=0), r"adapter_config\.json: ZeroDivisionError"),
        (lambda folder: (folder / WEIGHTS).unlink(), r"holds no adapter_model\.safetensors"),
        (edit(base_model_name_or_path="nobody/has-this"), "the model that it adapts was not found: .*nobody/has-this"),
        (lambda folder: edit(base_model_name_or_path=str(folder))(folder), "an adapter too"),
        (edit(target_modules=["no_such_layer"]), "cannot be put on its model: .*no_such_layer"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"cut"), "cannot be put on its model"),
        (weights(lambda tensors: tensors.pop(min(tensors))), "1 tensors are missing or unknown"),
        (weights(lambda tensors: tensors.update({min(tensors): tensors[min(tensors)][:, :3]})), "size mismatch"),
    ],
)
def test_a_damaged_adapter_is_one_clear_line(
    damage: Callable[[Path], Any], complaint: str, first: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(first[0], folder)
    damage(folder)
    with pytest.raises(BadAdapter, match=complaint) as caught:
        load_captioner(model_folder(str(folder), "captioner"), "float32", CPU)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


# --- the whole loop ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("prefect_server", "forked_engines")
@pytest.mark.parametrize("engine", ["transformers", "server"])
def test_adapters_are_trained_through_engines(engine: str, tmp_path: Path) -> None:
    opened: set[int] = set()

    def observe(stage: str, done: int, total: int) -> None:
        opened.update(id(cached.engine) for role, cached in engines._cached.items() if role == "captioner")

    recipe = loading.load(EMBEDDED_RECIPE, [*SMALL, f"captioner.engine.type={engine}"])
    observing.observers.append(observe)
    try:
        summary = train(recipe, run="lora", root=str(tmp_path))
    finally:
        observing.observers.remove(observe)
    assert len(opened) == 1, "swapped, not restarted"
    gaps = [gap for record in records(tmp_path) if (gap := record.metrics.get("logprob_gap")) is not None]
    assert len(gaps) == 3, "parity and two updates; the second on captions of the first adapter"
    assert max(gaps) <= 1e-4
    assert summary.final.accuracy > summary.base.accuracy - 3 * math.hypot(summary.base.stderr, summary.final.stderr)
    assert summary.policy.digest == model_digest(Path(summary.policy.uri)) != model_digest(INITIAL)
    assert not (Path(summary.policy.uri) / "model.safetensors").exists()
    again: Summary = train(recipe, run="again", root=str(tmp_path))
    assert again.policy == summary.policy
    assert sum(stage.executed for stage in again.stages.values()) == 0


def records(root: Path) -> list[artifacts.Record]:
    found = [artifacts.read_record(str(folder)) for folder in root.glob("artifacts/*/*")]
    return [record for record in found if record is not None]
