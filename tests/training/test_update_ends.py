"""How an update ends: with nothing left in memory, on one device, and with one line when its numbers diverge."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from racro import config
from racro.models.folders import EMBEDDED, model_digest
from racro.training import planning, trainer
from racro.training.divergence import Diverged, not_finite
from racro.training.failures import TrainerMemory
from racro.training.replay import ReplayTrainer
from racro.training.service import Inline
from racro.training.trainer import Training
from racro.training.trl_without_vllm import GRPOConfig
from tests.support.tiny_training import RUNTIME, SETTINGS, TinyTraining

CAPTIONER = EMBEDDED / "captioner"


def tensor_bytes() -> int:
    storages = {}
    for value in gc.get_objects():
        # Subclasses, such as the fake tensors that an earlier test may have left, hold no memory themselves.
        if type(value) in (torch.Tensor, torch.nn.Parameter) and value.device.type == "cpu":
            storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
    return sum(storages.values())


@pytest.mark.parametrize("end", ["rest", "close"])
@pytest.mark.parametrize("kind", ["plain", "lora", "frozen", "offload", "offload lora"])
def test_nothing_of_the_trainer_is_left_after_two_updates(
    tiny: TinyTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, end: str
) -> None:
    seen: dict[str, weakref.ref[Any]] = {}
    replay = ReplayTrainer.replay

    def watched(self: ReplayTrainer, *arguments: Any) -> Any:
        result = replay(self, *arguments)
        seen.update(trainer=weakref.ref(self), model=weakref.ref(self.model), optimizer=weakref.ref(self.optimizer))
        return result

    monkeypatch.setattr(ReplayTrainer, "replay", watched)
    rows = tiny.rollouts(CAPTIONER)
    work = planning.plan(rows, tiny.problems, rows[0].policy, 2)
    section = config.Captioner(model="embedded", dtype="float32", lora=config.Lora(rank=2) if "lora" in kind else None)
    freeze = ("vision", "merger") if kind == "frozen" else ()
    settings = SETTINGS.model_copy(update={"freeze": freeze, "max_logprob_gap": 10.0})  # the same captions twice
    place = config.TrainerPlacement(optimizer="offload" if "offload" in kind else "adamw")
    runtime = RUNTIME.model_copy(update={"trainer": place})
    service = Inline()
    gc.collect()
    before = tensor_bytes()
    service.begin(Training(CAPTIONER, section, 1.0, settings, runtime, 0), None, "initial")
    first = service.update("initial", "between", work, str(tiny.table), 0, lambda done, total: None)
    service.update("between", "next", work, str(tiny.table), int(first["steps"]), lambda done, total: None)
    assert service.policy == "next" and all(held() is not None for held in seen.values()), "it stays warm"
    getattr(service, end)()
    after = tensor_bytes()  # without a collection of this test's own
    assert len(seen) == 3
    assert {name for name, held in seen.items() if held() is not None} == set()
    weights = (CAPTIONER / "model.safetensors").stat().st_size
    assert after - before < weights / 4
    with pytest.raises(RuntimeError, match="the trainer holds nothing, not policy next"):
        service.export("next", tmp_path)


def test_nothing_of_a_trainer_that_diverged_is_left(
    tiny: TinyTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, weakref.ref[Any]] = {}
    replay = ReplayTrainer.replay

    def watched(self: ReplayTrainer, *arguments: Any) -> Any:
        seen.update(trainer=weakref.ref(self), model=weakref.ref(self.model))
        return replay(self, *arguments)

    monkeypatch.setattr(ReplayTrainer, "replay", watched)
    rows = tiny.rollouts(CAPTIONER)
    work = planning.plan(rows, tiny.problems, rows[0].policy, 2)
    section = config.Captioner(model="embedded", dtype="float32")
    service = Inline()
    gc.collect()
    before = tensor_bytes()
    settings = SETTINGS.model_copy(update={"learning_rate": 1e30})
    service.begin(Training(CAPTIONER, section, 1.0, settings, RUNTIME, 0), None, "initial")
    with pytest.raises(Diverged):
        service.update("initial", "next", work, str(tiny.table), 0, lambda done, total: None)
    service.close()
    assert len(seen) == 2 and {name for name, held in seen.items() if held() is not None} == set()
    assert tensor_bytes() - before < (CAPTIONER / "model.safetensors").stat().st_size / 4


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize(
    ("fault", "becomes"),
    [
        (lambda: torch.OutOfMemoryError("CUDA out of memory"), TrainerMemory),
        (lambda: RuntimeError("a kernel failed"), RuntimeError),
        (KeyboardInterrupt, KeyboardInterrupt),
    ],
)
def test_nothing_of_a_trainer_that_failed_is_left_while_its_error_is_handled(
    tiny: TinyTraining,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[], BaseException],
    becomes: type[BaseException],
    lora: bool,
) -> None:
    """A retry loads the next trainer while the first one's error, with all its frames, is still held."""
    seen: dict[str, weakref.ref[Any]] = {}

    def failing(self: ReplayTrainer, model: torch.nn.Module, *_: Any) -> Any:
        held = torch.ones(10, requires_grad=True)  # what a loss has computed so far
        seen.update(trainer=weakref.ref(self), model=weakref.ref(model), held=weakref.ref(held))
        try:
            raise ValueError("what the error came from")
        except ValueError as cause:
            raise fault() from cause

    monkeypatch.setattr(ReplayTrainer, "_compute_loss", failing)
    rows = tiny.rollouts(CAPTIONER)
    work = planning.plan(rows, tiny.problems, rows[0].policy, 2)
    section = config.Captioner(model="embedded", dtype="float32", lora=config.Lora(rank=2) if lora else None)
    service = Inline()
    service.begin(Training(CAPTIONER, section, 1.0, SETTINGS, RUNTIME, 0), None, "initial")
    try:
        service.update("initial", "next", work, str(tiny.table), 0, lambda done, total: None)
    except BaseException as error:
        assert type(error) is becomes
        assert len(seen) == 3
        assert {name for name, held in seen.items() if held() is not None} == set()
    else:
        pytest.fail("it raises")


@pytest.mark.parametrize("learning_rate", [10.0, 1e30])
@pytest.mark.parametrize("mini_batch", [2, 4], ids=["several steps", "one step"])
def test_a_training_that_diverges_ends_in_one_line_and_writes_nothing(
    tiny: TinyTraining, tmp_path: Path, mini_batch: int, learning_rate: float
) -> None:
    with pytest.raises(Diverged, match=r"diverged: .* at optimizer step \d of \d; .*update\.learning_rate") as caught:
        tiny.update(tmp_path / "policy", mini_batch=mini_batch, learning_rate=learning_rate)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "policy").glob("*.safetensors"))


def test_a_last_step_that_diverges_is_no_policy(tiny: TinyTraining, tmp_path: Path) -> None:
    """The KL is 0 in the first of two steps, whatever its weight; in the second the gradient overflows."""
    with pytest.raises(Diverged, match=r"diverged: the gradient norm is inf at optimizer step 2 of 2; nothing was"):
        tiny.update(tmp_path / "policy", mini_batch=2, beta=1e30)
    assert not list((tmp_path / "policy").glob("*.safetensors"))


def test_the_first_number_that_is_not_finite_is_named() -> None:
    assert not_finite({"loss": 0.5, "grad_norm": 2.0}) is None
    assert not_finite({"loss": 0.5, "grad_norm": float("inf")}) == "the gradient norm is inf"
    assert not_finite({"loss": float("nan")}) == "the loss is nan"


def test_the_trainer_takes_one_of_several_gpus(tmp_path: Path, monkeypatch: Any) -> None:
    """transformers would take the first and copy the model to the others, which TRL refuses."""
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    arguments = GRPOConfig(output_dir=str(tmp_path), use_cpu=True)
    arguments._n_gpu = 2
    trainer.on_one_device(arguments, torch.device("cuda:1"))
    assert arguments.n_gpu == 1
    assert arguments.device == arguments.distributed_state.device == torch.device("cuda:1")
    assert chosen == [torch.device("cuda:1")]


def test_a_policy_of_a_sharded_captioner_has_no_index_of_the_old_shards(tiny: TinyTraining, tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText

    sharded = tmp_path / "sharded"
    AutoModelForImageTextToText.from_pretrained(CAPTIONER).save_pretrained(sharded, max_shard_size="500KB")
    for file in CAPTIONER.iterdir():
        if file.suffix != ".safetensors" and not (sharded / file.name).exists():
            (sharded / file.name).write_bytes(file.read_bytes())
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    training = TinyTraining(sharded, tiny.table)
    metrics = training.update(tmp_path / "policy", mini_batch=2)
    assert [file.name for file in (tmp_path / "policy").glob("*.safetensors*")] == ["model.safetensors"]
    tiny.update(tmp_path / "whole", mini_batch=2)
    assert model_digest(tmp_path / "policy", (".safetensors",)) == model_digest(tmp_path / "whole", (".safetensors",))
    again = training.update(tmp_path / "next", mini_batch=2, policy=tmp_path / "policy", step=int(metrics["steps"]))
    assert again["logprob_gap"] < 1e-4
