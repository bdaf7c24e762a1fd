"""Who shares a GPU with whom, and what is refused before anything runs: with GPUs that only seem to be there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from racro.config import Recipe, loading
from racro.models import colocation, devices
from racro.models.colocation import NoRoom, Placed
from racro.models.devices import NoDevice
from racro.processes import gpus
from racro.processes.gpus import GIB, NoGpuMemory
from tests.support import fake_gpus
from tests.support.fake_gpus import Machine


def placed(recipe: Recipe, count: int) -> Placed:
    return colocation.placed(recipe, range(count), vllm=True)


def refusal(recipe: Recipe, kind: type[NoDevice] = NoRoom) -> str:
    with pytest.raises(kind) as found:
        colocation.require(recipe)
    assert "\n" not in str(found.value)
    return str(found.value)


EIGHT = "runtime.trainer={gpus: [0, 1, 2, 3, 4, 5, 6, 7], shard: fsdp}"
LORA = "captioner.lora={}"


def test_a_precision_that_does_not_train_is_refused() -> None:
    found = refusal(loading.load("embedded", ["captioner.dtype=float16"]), NoDevice)
    assert found.startswith("captioner.dtype: float16 overflows in training")


def test_all_weights_of_7b_do_not_fit_into_one_gpu(machine: Machine) -> None:
    machine.gpus(80, 80)
    message = refusal(machine.recipe("racro-7b"))
    assert "the trainer needs at least 139.0 GiB on GPU 0, which has 80.0 GiB" in message
    assert "divide it among 4 of them (runtime.trainer.gpus, shard: fsdp" in message, "numbers that would do"
    assert "train an adapter (captioner.lora={}" in message
    colocation.require(machine.recipe("racro-7b", LORA))
    colocation.require(machine.recipe("racro-3b", "update.beta=0"))


def test_judges_count_where_they_are(machine: Machine) -> None:
    machine.gpus(80, 80)
    judges = "judges={eye: {model: embedded, sees: image}, ear: {model: embedded}, idle: {model: embedded}}"
    rewards = "rewards=[{type: answer}, {type: correctness, splitter: ear}, {type: retrieval, judge: ear}]"
    place = "runtime.judges={ear: {gpus: [1], worker: true}}"
    found = placed(machine.recipe("racro-3b", LORA, judges, rewards, place), 2)
    assert {(held.who, held.gpu) for held in found.held if held.who.startswith("judges.")} == {
        ("judges.eye", 0),
        ("judges.ear", 1),
    }
    away = "runtime.judges={ear: {gpus: [7]}}"
    with pytest.raises(NoDevice, match=r"runtime\.judges\.ear\.gpus: there is no GPU 7"):
        devices.require(machine.recipe("racro-3b", LORA, judges, rewards, away))


def test_the_remedies_are_accepted(machine: Machine) -> None:
    machine.gpus(*[80] * 8)
    refusal(machine.recipe("racro-7b"))
    for remedy in ("runtime.trainer={gpus: [0, 1, 2, 3], shard: fsdp}", LORA, EIGHT):
        recipe = machine.recipe("racro-7b", remedy)
        colocation.require(recipe)
        need = placed(recipe, 8).trainer
        assert need is not None and need.likely < 80 * GIB, remedy


def test_only_what_is_certain_is_refused(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """A pass too large for the memory is a warning: the formula for activations is an estimate."""
    machine.gpus(80, 80)
    recipe = machine.recipe("racro-3b", "runtime.trainer.tokens=100000")
    need = placed(recipe, 2).trainer
    assert need is not None and need.certain < 80 * GIB < need.likely
    colocation.require(recipe)
    assert "GPU 0 will probably run out of memory (update:" in caplog.text
    assert "lower runtime.trainer.tokens" in caplog.text


def test_a_trainer_on_the_second_gpu(machine: Machine) -> None:
    machine.gpus(24, 80)
    assert "on GPU 0, which has 24.0 GiB" in refusal(machine.recipe("racro-3b"))
    recipe = machine.recipe("racro-3b", "runtime={device: 'cuda:1', captioner: {gpus: [0]}, reasoner: {gpus: [0]}}")
    turns = placed(recipe, 2).turns(1)
    assert {held.who for held in turns["update"]} == {"trainer"}
    assert not devices.shared(recipe.runtime, "captioner") and not devices.shared(recipe.runtime, "reasoner")
    machine.monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    second = machine.recipe("racro-3b", "runtime={device: 'cuda:0', captioner: {gpus: [0]}, reasoner: {gpus: [0]}}")
    assert devices.trainer_gpus(second.runtime, gpus.visible([0, 1])) == (1,), "as CUDA counts what it may see"
    assert not devices.shared(second.runtime, "captioner")


def test_two_gpus_and_a_single_process_are_fine(machine: Machine) -> None:
    machine.gpus(80, 80)
    for device in ("auto", "cuda:0", "cuda:1"):
        colocation.require(loading.load("embedded", [f"runtime.device={device}"]))


def test_who_is_awake_with_whom(machine: Machine) -> None:
    """One GPU for all: engines share it during captions and answers, and the trainer has it for itself."""
    one = "runtime={device: 'cuda:0', captioner: {gpus: [0], gpu_memory: 0.4}, reasoner: {gpus: [0], gpu_memory: 0.4}}"
    recipe = machine.recipe("racro-3b", LORA, one)
    found = placed(recipe, 1)
    assert {turn: [held.who for held in awake] for turn, awake in found.turns(0).items()} == {
        "captions, answers": ["captioner", "reasoner"],
        "update": ["trainer"],
        "parity check": ["parity check"],
    }
    both = sum(held.bytes(80 * GIB) for held in found.turns(0)["captions, answers"])
    assert both == pytest.approx(0.8 * 80 * GIB)
    assert found.trainer is not None
    assert found.peak(0, 80 * GIB) == both + colocation.CONTEXT, "and what the trainer leaves when it rests"
    full = placed(machine.recipe("racro-3b", one), 1)
    assert full.trainer is not None
    most = full.trainer.likely + 2 * colocation.CONTEXT
    assert full.peak(0, 80 * GIB) == most, "and what both engines leave when they sleep"
    machine.gpus(80)
    colocation.require(recipe)
    greedy = machine.recipe("racro-3b", LORA, one.replace("0.4", "0.6"))
    assert "both engines are awake on GPU 0 at the same time" in refusal(greedy)
    assert "give each 0.45" in refusal(greedy)


def test_weights_that_do_not_fit_into_an_engines_share(machine: Machine) -> None:
    machine.gpus(*[24] * 8)
    where = "runtime={device: 'cuda:0', captioner: {gpus: [1], gpu_memory: 0.5}, reasoner: {gpus: [2]}}"
    message = refusal(machine.recipe("racro-7b", where, EIGHT.replace("[0, 1, 2, 3, 4, 5, 6, 7]", "[0, 1, 2]"), LORA))
    assert "runtime.captioner.gpu_memory: the weights of the captioner are 15.4 GiB, and 50%" in message
    assert "give it 0.8" in message
    large = where.replace("0.5", "0.9")
    assert "set runtime.captioner.tensor_parallel=4" in refusal(machine.recipe("racro-32b", large, EIGHT))


@pytest.mark.parametrize(
    ("runtime", "says"),
    [
        ("{trainer: {gpus: [2, 3], shard: fsdp}}", "runtime.trainer.gpus: there is no GPU 2, 3; nvidia-smi shows GPUs"),
        ("{device: cpu, trainer: {gpus: [0]}}", r"\[0\] contradict runtime.device=cpu; set runtime.device=auto"),
        ("{trainer: {processes: 4, shard: ddp}}", "4 processes need a GPU each, and there are 2; set .*processes=2"),
    ],
)
def test_a_trainer_that_is_nowhere(runtime: str, says: str, machine: Machine) -> None:
    machine.gpus(80, 80)
    with pytest.raises(NoDevice, match=says):
        colocation.require(loading.load("embedded", [f"runtime={runtime}"]))


def test_processes_on_cpus_need_no_gpu(machine: Machine) -> None:
    four = "trainer: {processes: 4, shard: fsdp}"
    colocation.require(loading.load("embedded", [f"runtime={{{four}}}"]))
    machine.gpus(80)
    colocation.require(loading.load("embedded", [f"runtime={{device: cpu, {four}}}"]))
    machine.monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    colocation.require(loading.load("embedded", [f"runtime={{{four}}}"]))


def test_endpoints_and_scripts_need_no_gpu(machine: Machine) -> None:
    elsewhere = "reasoner.engine={type: server}"
    recipe = machine.recipe("racro-3b", LORA, elsewhere, "runtime.reasoner={urls: ['http://host/v1']}")
    assert {held.who for held in placed(recipe, 2).held} == {"captioner", "trainer", "parity check"}
    scripted = machine.recipe("racro-3b", "captioner.engine={type: scripted}", "reasoner.engine={type: scripted}")
    assert {held.who for held in placed(scripted, 2).held} == {"trainer"}


def test_memory_is_waited_for(machine: Machine) -> None:
    table = machine.gpus(80, 80, free=0.5)
    gpus.wait_for_bytes({0: 39 * GIB, 1: 39 * GIB, 7: GIB}, deadline=0)
    with pytest.raises(NoGpuMemory, match=r"GPU 1: 41\.0 GiB are needed, and less is free"):
        gpus.wait_for_bytes({0: 39 * GIB, 1: 41 * GIB}, deadline=0)
    Path(f"{table}.next").write_text(fake_gpus.lines({0: 80, 1: 80}))
    gpus.wait_for_bytes({1: 41 * GIB})  # when it is asked for the second time, it is free
    assert not Path(f"{table}.next").exists()
