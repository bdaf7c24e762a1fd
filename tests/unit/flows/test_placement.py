"""A placement is refused before anything starts, doctor shows it, and memory is looked at before each turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.cli import doctor, running, training
from racro.config import Captioner, Recipe, Runtime, UpdateSettings, loading
from racro.engines.protocol import Engine, EngineLost
from racro.models.colocation import NoRoom
from racro.models.devices import NoDevice
from racro.models.folders import EMBEDDED
from racro.processes import gpus
from racro.schema import Policy
from racro.training.failures import TrainerMemory
from tasks.running import engines
from tasks.running.trainer_memory import wait_for_memory
from tests.support import fake_gpus
from tests.support.fake_gpus import Machine

LORA = "captioner.lora={}"
EIGHT = "runtime.trainer={gpus: [0, 1, 2, 3, 4, 5, 6, 7], shard: fsdp}"


def test_a_training_that_cannot_fit_starts_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "server", lambda *_: pytest.fail("a server was started"))
    machine.gpus(80, 80)
    with pytest.raises(NoRoom, match=r"the trainer needs at least 139\.0 GiB on GPU 0"):
        training.train("racro-7b", overrides=machine.overrides("racro-7b"))
    with pytest.raises(NoDevice, match="there is no GPU 2"):
        training.train("embedded", overrides=["runtime.trainer.gpus=[2]"])


def test_a_flow_refuses_it_before_its_first_stage(machine: Machine, tmp_path: Path) -> None:
    """A deployment's too, or a child of a sweep, whose recipe no command has seen."""
    from flows.training import train

    machine.gpus(24, 80)
    root = tmp_path / "root"
    with pytest.raises(NoRoom, match=r"on GPU 0, which has 24\.0 GiB"):
        train.fn(machine.recipe("racro-3b"), run="a", root=str(root))
    assert not root.exists()


Page = Callable[[Recipe], tuple[int, str]]


@pytest.fixture
def page(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Page:
    """`racro doctor RECIPE`, without its other checks, and what it prints."""
    monkeypatch.setattr(doctor, "examine", lambda root: {})

    def shown(recipe: Recipe) -> tuple[int, str]:
        code = doctor.run(str(tmp_path), False, recipe)
        return code, capsys.readouterr().out

    return shown


def test_doctor_says_what_fits(machine: Machine, page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    machine.gpus(80, 80)
    code, text = page(machine.recipe("racro-7b", LORA))
    assert code == 0
    assert "fits, with up to" in text and "trainer" in text and "of 80.0" in text
    code, text = page(machine.recipe("racro-7b"))
    assert code == 1 and "too much" in text
    assert "placement" in text and "divide it among 4" in text
    doctor.run(".", True, machine.recipe("racro-7b", LORA))
    [row] = json.loads(capsys.readouterr().out)
    assert row["check"] == "placement" and row["state"] == "ok"
    assert [gpu["total"] for gpu in row["gpus"]] == [80.0, 80.0]
    assert row["trainer"]["weights"] == pytest.approx(15.6, abs=0.2)


def test_doctor_says_the_need_where_no_gpu_is(machine: Machine, page: Page) -> None:
    code, text = page(machine.recipe("racro-7b", EIGHT))
    assert code == 0
    assert "needs GPU 0, 1, 2, 3, 4, 5, 6, 7 with up to" in text and "there is none here" in text
    code, text = page(loading.load("embedded"))
    assert code == 0 and "runs on CPUs here" in text
    code, text = page(loading.load("racro-7b", ["captioner.model=nobody/nothing", "reasoner.model=nobody/nothing"]))
    assert code == 0 and "not counted: captioner and reasoner" in text


class Sleeper(Engine):
    """An engine that sleeps when it is told to."""

    asleep = False

    def generate(self, requests: Any) -> Iterator[Any]:
        yield from ()

    def sleep(self, discard: bool = False) -> None:
        self.asleep = True

    def close(self) -> None:
        pass


@pytest.fixture
def colocated(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Engine]]:
    """Opens the captioner's engine on the trainer's GPU, in the process of a run that has no trainer yet."""
    monkeypatch.setattr(engines, "open_captioner", lambda *_: Sleeper())
    monkeypatch.setattr(gpus, "cpu_build", lambda: False)
    monkeypatch.setattr(gpus, "MEMORY_DEADLINE", 0.0)
    config = Captioner.model_validate({"model": "embedded", "engine": {"type": "vllm"}})
    policy = Policy(uri=str(EMBEDDED / "captioner"), rows=0, digest="initial", step=0)
    yield lambda: engines.captioner_engine(config, policy, Runtime())
    engines.release("captioner")


def test_an_engine_wakes_up_when_there_is_room(machine: Machine, colocated: Callable[[], Engine]) -> None:
    table = machine.gpus(80)
    engine = colocated()
    assert colocated() is engine
    engines.make_room(Runtime())
    assert isinstance(engine, Sleeper) and engine.asleep
    table.write_text(fake_gpus.lines({0: 80}, free=0.2))
    with pytest.raises(EngineLost, match=r"GPU 0: less than 75% .* lower runtime\.captioner\.gpu_memory"):
        colocated()
    table.write_text(fake_gpus.lines({0: 80}, free=0.8))
    assert colocated() is engine, "awake, it holds its share"
    table.write_text(fake_gpus.lines({0: 80}, free=0.1))
    assert colocated() is engine, "which is not waited for again"


def test_the_trainer_starts_when_there_is_room(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    from racro.training.trainer import Training

    monkeypatch.setattr(gpus, "MEMORY_DEADLINE", 0.0)
    folder = EMBEDDED / "captioner"
    runtime = Runtime(device="cuda:1")
    given = Training(folder, Captioner(model="embedded"), 1.0, UpdateSettings(), runtime, 0)
    table = machine.gpus(1, 1)
    wait_for_memory(given)
    table.write_text("0, 1024, 1024\n1, 10, 1024\n")
    with pytest.raises(TrainerMemory, match=r"the trainer cannot start: GPU 1: 0\.0 GiB are needed, and less is free"):
        wait_for_memory(given)
    table.write_text("0, 10, 1024\n1, 1024, 1024\n")
    wait_for_memory(given)
