"""A device that is not there is one line, before anything starts."""

from __future__ import annotations

import pytest
import torch

from racro.config import loading
from racro.models import devices
from racro.models.devices import NoDevice


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("cuda:0", "runtime.device: cuda:0: torch finds no such device here; set runtime.device=auto"),
        ("gpu", "runtime.device: gpu is no device; give auto, cpu, cuda or cuda:1"),
        ("meta", "runtime.device: meta: torch finds no such device here"),
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
