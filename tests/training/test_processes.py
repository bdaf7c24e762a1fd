"""Several processes train as one does: the same steps, the same weights, really divided; and they end together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from racro import config
from racro.models.folders import EMBEDDED
from racro.schema import Verdict
from racro.training import planning
from racro.training.service import Inline, Service, opened
from racro.training.trainer import Training
from tests.support.tiny_training import RUNTIME, SETTINGS, TinyTraining
from tests.support.updating import optimizer_state

CAPTIONER = EMBEDDED / "captioner"
WORLDS: dict[str, dict[str, Any]] = {
    "ddp": {"processes": 2, "shard": "ddp"},
    "fsdp": {"processes": 2, "shard": "fsdp"},
    "hybrid": {"processes": 4, "shard": "fsdp", "hybrid": 2},
}


def training(lora: bool = False, **placement: Any) -> Training:
    section = config.Captioner(model="embedded", dtype="float32", lora=config.Lora(rank=2) if lora else None)
    runtime = RUNTIME.model_copy(update={"trainer": config.TrainerPlacement(**placement)})
    return Training(CAPTIONER, section, 1.0, SETTINGS, runtime, 0)


@pytest.fixture(scope="module")
def work(tiny: TinyTraining) -> planning.Plan:
    """Two steps; captions of different lengths, one of them unscored."""
    rows = tiny.rollouts(CAPTIONER)
    rows[1] = rows[1].model_copy(update={"reward": None, "verdict": Verdict.FAILED})
    return planning.plan(rows, tiny.problems, rows[0].policy, 2)


def taken(service: Service, work: planning.Plan, tiny: TinyTraining, out: Path, lora: bool, **placement: Any) -> Any:
    """Metrics of one update from the initial policy; model and state are in `out`."""
    out.mkdir()
    try:
        service.begin(training(lora, **placement), None, "initial")
        metrics = service.update("initial", "next", work, str(tiny.table), 0, lambda done, total: None)
        service.export("next", out)
        service.save("next", out / "trainer")
    finally:
        service.close()
    return metrics


@pytest.fixture(scope="module", params=[False, True], ids=["full", "lora"])
def alone(request: Any, work: planning.Plan, tiny: TinyTraining, tmp_path_factory: Any) -> tuple[bool, Any, Path]:
    """What one process makes of the plan."""
    out = tmp_path_factory.mktemp("alone") / "policy"
    return request.param, taken(Inline(), work, tiny, out, request.param), out


def apart(some: Path, other: Path) -> float:
    (a,), (b,) = ([load_file(file) for file in folder.glob("*.safetensors")] for folder in (some, other))
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


@pytest.mark.parametrize("name", WORLDS)
def test_processes_train_as_one_does(
    name: str, alone: tuple[bool, Any, Path], work: planning.Plan, tiny: TinyTraining, tmp_path: Path
) -> None:
    lora, expected, single = alone
    if lora and name == "hybrid":
        pytest.skip("the adapter's layout is that of fsdp")
    placement = WORLDS[name]
    log = tmp_path / "trainer.log"
    metrics = taken(
        opened(config.TrainerPlacement(**placement), log), work, tiny, tmp_path / "policy", lora, **placement
    )
    assert apart(tmp_path / "policy", single) < 1e-6
    assert apart(tmp_path / "policy", CAPTIONER) > 1e-4 if not lora else True
    for what in ("loss", "kl", "entropy", "grad_norm", "logprob_gap", "importance_ratio", "steps", "groups_trained"):
        assert metrics[what] == pytest.approx(expected[what], rel=1e-5, abs=1e-6), what
    moments, others = optimizer_state(tmp_path / "policy"), optimizer_state(single)
    assert moments.keys() == others.keys()
    written = sorted(file.name for file in (tmp_path / "policy" / "trainer").iterdir())
    assert len(written) == 1 + placement["processes"], "every process wrote its share"
