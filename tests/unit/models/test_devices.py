"""A device that is not there is one line, before anything starts."""

from __future__ import annotations

import pytest
import torch

from racro.config import loading
from racro.models import attention, devices
from racro.models.attention import NoAttention
from racro.models.devices import NoDevice, NoOptimizer


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("cuda:0", "runtime.device: cuda:0: torch finds no such device here; set runtime.device=auto"),
        ("gpu", "runtime.device: gpu is no device; give auto, cpu, cuda or cuda:1"),
        ("meta", "runtime.device: meta: torch finds no such device here"),
        ("cpu:1", "runtime.device: cpu:1: CPUs have no numbers; give cpu"),
        ("xpu:3", "runtime.device: xpu:3: torch finds no such device here"),
    ],
)
def test_a_device_that_is_not_there(device: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NoDevice, match=says):
        devices.require(loading.load("embedded", [f"runtime.device={device}"]))


def test_a_gpu_beyond_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    devices.require(loading.load("embedded", ["runtime.device=cuda:1"]))
    with pytest.raises(NoDevice, match="cuda:2: there are 2, counted from 0"):
        devices.require(loading.load("embedded", ["runtime.device=cuda:2"]))


@pytest.mark.parametrize("there", [{}, {0: 1.0, 1: 1.0}])
def test_gpus_of_a_role(there: dict[int, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "free_shares", lambda: there)
    with pytest.raises(NoDevice, match=r"runtime\.reasoner\.gpus: there is no GPU .*7; nvidia-smi shows"):
        devices.require(loading.load("embedded", ["runtime.reasoner.gpus=[7]"]))
    scripted = "reasoner.engine={type: scripted, rules: [{replies: [a]}]}"
    devices.require(loading.load("embedded", ["runtime.reasoner.gpus=[7]", scripted]))


def test_gpus_of_a_reasoner_that_only_an_evaluation_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "free_shares", lambda: {0: 1.0})
    recipe = loading.load("embedded", ["runtime.reasoners.other.gpus=[7]"])
    devices.require_engines(recipe)
    other = recipe.reasoner.model_copy(update={"model": "some/other"})
    with pytest.raises(NoDevice, match=r"runtime\.reasoners\.other\.gpus: there is no GPU 7"):
        devices.require_engines(recipe, (recipe.reasoner, other))


def test_more_copies_or_parts_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "free_shares", lambda: {0: 1.0, 1: 1.0})
    for overrides, says in (
        (["runtime.reasoner.tensor_parallel=4"], "4 GPUs are asked for, but nvidia-smi shows 2"),
        (["runtime.reasoner.data_parallel=2"], "2 copies need GPUs each; name 2 in runtime.reasoner.gpus"),
    ):
        with pytest.raises(NoDevice, match=says):
            devices.require(loading.load("embedded", overrides))
        devices.require(loading.load("embedded", [*overrides, "runtime.device=cpu"]))
    devices.require(loading.load("embedded", ["runtime.reasoner={data_parallel: 2, gpus: [0, 1]}"]))
    monkeypatch.setattr(devices, "free_shares", dict)
    devices.require(loading.load("embedded", ["runtime.reasoner.data_parallel=2"]))


def test_the_cpu_and_the_default_need_no_torch_and_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "free_shares", lambda: pytest.fail("asked"))
    for device in ("auto", "cpu"):
        devices.require(loading.load("embedded", [f"runtime.device={device}"]))


@pytest.mark.parametrize("name", ["flex_attention", "flash_attention_2", "flash_attention_3"])
def test_attention_that_does_not_train_on_a_cpu(name: str) -> None:
    with pytest.raises(
        NoAttention, match=rf"^runtime\.trainer\.attention: {name} does not train on a CPU; set .*=auto$"
    ):
        devices.require(loading.load("embedded", [f"runtime.trainer.attention={name}", "runtime.device=cpu"]))
    for setting in ("auto", "sdpa"):
        devices.require(loading.load("embedded", [f"runtime.trainer.attention={setting}"]))


def test_flash_attention_that_is_not_installed_and_one_that_needs_16_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    flash = ["runtime.trainer.attention=flash_attention_2", "runtime.device=cuda:0"]
    with pytest.raises(NoAttention, match=r"flash_attention_2 computes in 16 bits, and .* is float32"):
        devices.require(loading.load("embedded", flash))
    flash.append("captioner.dtype=bfloat16")
    monkeypatch.setattr(attention, "installed", lambda: ["flash_attention_3"])
    with pytest.raises(NoAttention, match="flash_attention_2 is not installed here"):
        devices.require(loading.load("embedded", flash))
    monkeypatch.setattr(attention, "installed", lambda: ["flash_attention_2"])
    devices.require(loading.load("embedded", flash))


def test_an_optimizer_whose_library_or_compiler_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = loading.load("embedded", ["update.optimizer=adamw_8bit"])
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NoOptimizer, match=r"adamw_8bit needs torchao, which is not installed: pip install 'racro\["):
        devices.require(recipe)
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(devices.shutil, "which", lambda name: None)
    with pytest.raises(NoOptimizer, match=r"there is no C\+\+ compiler: install g\+\+"):
        devices.require(recipe)
    monkeypatch.setattr(devices.shutil, "which", lambda name: "/usr/bin/g++")
    devices.require(recipe)
    devices.require(loading.load("embedded", ["runtime.trainer.optimizer=offload"]))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["runtime.trainer.optimizer=adamw_8bit"], r"8-bit moments change the result.*update\.optimizer=adamw_8bit"),
        (["update.freeze=[vision]", "captioner.lora={}"], r"update\.freeze: adapters change the language model only"),
        (["update.freeze=[language]"], r"update\.freeze"),
        (
            ["update.optimizer=adamw_8bit", "runtime.trainer.optimizer=offload"],
            "keeps no .* does; choose one",
        ),
        (["captioner.min_pixels=9", "captioner.max_pixels=8"], r"min_pixels \(9\) is larger than max_pixels \(8\)"),
        (["captioner.engine={type: vllm, kv_cache_dtype: int3}"], r"captioner\.engine.*kv_cache_dtype"),
    ],
)
def test_settings_that_do_not_go_together(changes: list[str], says: str) -> None:
    with pytest.raises(loading.BadRecipe, match=says) as refused:
        loading.load("embedded", changes)
    assert "\n" not in str(refused.value)
