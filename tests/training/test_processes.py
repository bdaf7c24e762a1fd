"""Several processes train as one does: the same steps, the same weights, really divided; and they end together."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig

from racro import config
from racro.engines.worker.main import portable
from racro.models.folders import EMBEDDED, TRAINER, model_digest
from racro.training import planning
from racro.training.divergence import Diverged
from racro.training.failures import LogprobMismatch, TrainerLost, TrainerMemory
from racro.training.host import Host
from racro.training.planning import BadRollouts
from racro.training.service import Inline, Processes, Service
from racro.training.sharding import Spread
from racro.training.trainer import Training
from tests.support import forkserver
from tests.support.losses import EACH
from tests.support.scoring import rescored
from tests.support.tiny_training import RUNTIME, SETTINGS, TinyTraining
from tests.support.updating import optimizer_state

CAPTIONER = EMBEDDED / "captioner"
ALONE = config.TrainerPlacement()
KINDS = ("full", "lora", "half")
PAIR = config.TrainerPlacement(processes=2, shard="fsdp")


def training(kind: str = "full", place: config.TrainerPlacement = ALONE) -> Training:
    section = config.Captioner(
        model="embedded",
        dtype="bfloat16" if kind == "half" else "float32",
        lora=config.Lora(rank=2) if kind == "lora" else None,
    )
    runtime = RUNTIME.model_copy(update={"trainer": place, "gradient_checkpointing": kind == "half"})
    settings = SETTINGS.model_copy(update={"max_logprob_gap": 0.1 if kind == "half" else 1e-4})
    return Training(CAPTIONER, section, 1.0, settings, runtime, 0)


@pytest.fixture(scope="module", autouse=True)
def forked_processes() -> Iterator[None]:
    """Those of a training start in a second, and not in ten."""
    with forkserver.children():
        yield


@pytest.fixture(scope="module")
def work(tiny: TinyTraining) -> planning.Plan:
    """Two steps; captions of different lengths, one of them unscored."""
    rows = tiny.rollouts(CAPTIONER)
    rows = rescored(rows, {1: None})
    return planning.plan(rows, tiny.problems, rows[0].policy, 2)


class Made(NamedTuple):
    """What one update from the initial policy made; model and state are in `folder`."""

    folder: Path
    metrics: dict[str, float]
    spread: dict[str, Spread]


def take(service: Service, work: planning.Plan, tiny: TinyTraining, folder: Path, how: Training) -> Made:
    folder.mkdir()
    spread = service.begin(how, None, "initial")
    metrics = service.update("initial", "next", work, str(tiny.table), 0, lambda done, total: None)
    service.export("next", folder)
    service.save("next", folder / TRAINER)
    return Made(folder, metrics, spread)


@pytest.fixture(scope="module")
def alone(work: planning.Plan, tiny: TinyTraining, tmp_path_factory: Any) -> dict[str, Made]:
    """What one process makes of the plan: all weights, an adapter, and in 16 bits with gradient checkpointing."""
    place, made = tmp_path_factory.mktemp("alone"), {}
    for kind in KINDS:
        service = Inline()
        made[kind] = take(service, work, tiny, place / kind, training(kind))
        service.close()
    return made


@pytest.fixture(scope="module")
def two(tmp_path_factory: Any) -> Iterator[Processes]:
    """Two processes that divide a model between them, for one training after the other."""
    service = Processes(PAIR, tmp_path_factory.mktemp("log") / "trainer.log")
    yield service
    service.close()


@pytest.fixture(scope="module")
def divided(two: Processes, work: planning.Plan, tiny: TinyTraining, tmp_path_factory: Any) -> dict[str, Made]:
    """What these two make of the plan."""
    place = tmp_path_factory.mktemp("divided")
    return {kind: take(two, work, tiny, place / kind, training(kind, PAIR)) for kind in KINDS}


def apart(some: Path, other: Path) -> float:
    (a,), (b,) = ([load_file(file) for file in folder.glob("*.safetensors")] for folder in (some, other))
    assert a.keys() == b.keys() and len(a) > 20
    return max((a[name] - b[name]).abs().max().item() for name in a)


def same(made: Made, single: Made, rounding: float = 1e-6) -> None:
    """The same steps: weights, moments and metrics. `rounding`: of weights, of which a step changes 1e-3."""
    assert apart(made.folder, single.folder) < rounding
    for what in ("loss", "kl", "entropy", "grad_norm", "logprob_gap", "importance_ratio", "steps", "groups_trained"):
        assert made.metrics[what] == pytest.approx(single.metrics[what], rel=1e-5, abs=1e-6), what
    moments, others = optimizer_state(made.folder), optimizer_state(single.folder)
    assert moments.keys() == others.keys()
    scale = max(entry["exp_avg"].abs().max().item() for entry in others.values())
    for name, entry in others.items():
        assert (moments[name]["exp_avg"] - entry["exp_avg"]).abs().max().item() <= 1e-6 * scale, name


@pytest.mark.parametrize(
    "error", [Diverged("the loss is nan", 1, 2, 0.1), TrainerMemory("full"), LogprobMismatch("apart"), BadRollouts("x")]
)
def test_what_ends_an_update_travels_between_processes_as_it_is(error: Exception) -> None:
    """Otherwise it would count as a lost process, and be tried again."""
    assert portable(error)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error)


def test_memory_that_is_full_is_one_line_that_travels() -> None:
    def full(*arguments: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    host = Host()
    host.trainer, host.policy = SimpleNamespace(update=full, save=full), "here"  # type: ignore[assignment]
    for command in (lambda: host.save("here", Path()), lambda: host.update("here", "there", *[None] * 5)):  # type: ignore[arg-type]
        with pytest.raises(TrainerMemory, match=r"tried|Tried to allocate 2 GiB.*runtime\.trainer\.tokens") as caught:
            command()
        assert portable(caught.value) and caught.value.__cause__ is None


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_two_processes_that_divide_the_model_train_as_one_does(
    kind: str, alone: dict[str, Made], divided: dict[str, Made]
) -> None:
    same(divided[kind], alone[kind])
    assert kind == "lora" or apart(divided[kind].folder, CAPTIONER) > 1e-4, "and they did train"


@pytest.mark.parametrize("loss", ["grpo", "dr_grpo", "luspo"])
def test_no_loss_depends_on_the_number_of_processes(
    loss: str, two: Processes, work: planning.Plan, tiny: TinyTraining, tmp_path: Path
) -> None:
    """One for each of what a loss may be divided by besides the tokens of the step, and with an entropy bonus."""
    how = config.UpdateSettings(**SETTINGS.model_dump() | EACH[loss] | {"loss": loss, "entropy_bonus": 0.1})
    inline = Inline()
    alone, divided = (replace(training("full", place), config=how) for place in (ALONE, PAIR))
    same(
        take(two, work, tiny, tmp_path / "divided", divided),
        take(inline, work, tiny, tmp_path / "alone", alone),
        rounding=1e-5,
    )
    inline.close()


def test_in_16_bits_they_differ_by_rounding(alone: dict[str, Made], divided: dict[str, Made]) -> None:
    """One process casts weights for each operation, several gather them cast already."""
    one, two = alone["half"].metrics, divided["half"].metrics
    for what in ("loss", "kl", "entropy", "grad_norm", "importance_ratio"):
        assert two[what] == pytest.approx(one[what], rel=0.1, abs=0.02), what
    assert two["logprob_gap"] < 0.05
    (saved,) = (load_file(file) for file in divided["half"].folder.glob("*.safetensors"))
    assert {value.dtype for value in saved.values()} == {torch.bfloat16}, "engines get weights in their own precision"
    moments = optimizer_state(divided["half"].folder)
    assert {value.dtype for entry in moments.values() for value in entry.values()} == {torch.float32}


def test_the_model_and_its_reference_are_really_divided(alone: dict[str, Made], divided: dict[str, Made]) -> None:
    """Each layer of both towers by itself, and half of every weight in each process; also in what they wrote."""
    settings = AutoConfig.from_pretrained(CAPTIONER)
    layers = settings.vision_config.depth + settings.text_config.num_hidden_layers
    for name, how in divided["full"].spread.items():
        assert how.parts == layers + 1, name
        assert how.here < 0.55 * how.whole
        assert alone["full"].spread[name] == (0, how.whole, how.whole)
    assert set(divided["full"].spread) == {"policy", "reference"}
    assert set(divided["lora"].spread) == {"policy"}, "an adapter's reference is the model without it"
    sizes = [file.stat().st_size for file in (divided["full"].folder / TRAINER).glob("*.distcp")]
    assert len(sizes) == 2 and max(sizes) < 1.2 * min(sizes)


def test_four_processes_go_on_from_the_state_of_two(
    alone: dict[str, Made], divided: dict[str, Made], work: planning.Plan, tiny: TinyTraining, tmp_path: Path
) -> None:
    """In two copies of two; loaded by one and by four, the policy is the one that two saved, to the last bit."""
    place = config.TrainerPlacement(processes=4, shard="fsdp", hybrid=2)
    inline = Inline()
    four = Processes(place, tmp_path / "trainer.log")
    try:
        made = take(four, work, tiny, tmp_path / "own", training("full", place))
        same(made, alone["full"])
        for name, service, how in (("one", inline, training()), ("four", four, training("full", place))):
            service.begin(how, divided["full"].folder / TRAINER, "next")
            (tmp_path / name).mkdir()
            service.export("next", tmp_path / name)
            assert model_digest(tmp_path / name) == model_digest(divided["full"].folder)
    finally:
        four.close()
        inline.close()


def test_two_copies_of_the_model_train_as_one_does(
    alone: dict[str, Made], work: planning.Plan, tiny: TinyTraining, tmp_path: Path
) -> None:
    place = config.TrainerPlacement(processes=2, shard="ddp")
    service = Processes(place, tmp_path / "trainer.log")
    try:
        made = take(service, work, tiny, tmp_path / "policy", training("full", place))
    finally:
        service.close()
    same(made, alone["full"])
    assert made.spread["policy"].here == made.spread["policy"].whole


def test_a_lost_process_ends_all(work: planning.Plan, tiny: TinyTraining, tmp_path: Path) -> None:
    """While the others wait for it in the middle of a step."""
    service = Processes(PAIR, tmp_path / "trainer.log")
    pids = service.pids
    service.begin(training("full", PAIR), None, "initial")
    with pytest.raises(TrainerLost, match="process 1 of 2 of the trainer killed by signal 9"):
        service.update(
            "initial", "next", work, str(tiny.table), 0, lambda done, total: os.kill(pids[1], signal.SIGKILL)
        )
    assert service.closed and service.policy is None
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_what_one_process_finds_wrong_is_raised_as_it_is(
    tiny: TinyTraining, work: planning.Plan, tmp_path: Path
) -> None:
    """And ends all of them: the others would wait."""
    service = Processes(PAIR, tmp_path / "trainer.log")
    strict = replace(training("full", PAIR), config=SETTINGS.model_copy(update={"max_logprob_gap": 1e-12}))
    service.begin(strict, None, "initial")
    with pytest.raises(LogprobMismatch, match="max_logprob_gap"):
        service.update("initial", "next", work, str(tiny.table), 0, lambda done, total: None)
    assert service.closed


def test_commands_name_the_policy_that_they_expect(divided: dict[str, Made], two: Processes, tmp_path: Path) -> None:
    assert two.policy == "next"
    with pytest.raises(RuntimeError, match="the trainer holds next, not policy other"):
        two.export("other", tmp_path)
