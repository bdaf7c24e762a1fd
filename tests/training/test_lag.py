"""Captions of the policy before: compared with the weights that wrote them, and the comparison changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from racro import config
from racro.models.folders import EMBEDDED, TRAINER, model_digest
from racro.schema import ScoredRollout
from racro.training import planning
from racro.training.failures import LogprobMismatch
from racro.training.service import Inline, Processes, Service
from racro.training.trainer import Training
from tests.support import forkserver
from tests.support.tiny_training import RUNTIME, SETTINGS, TinyTraining

CAPTIONER = EMBEDDED / "captioner"


def training(place: config.TrainerPlacement | None = None) -> Training:
    section = config.Captioner(model="embedded", dtype="float32")
    runtime = RUNTIME.model_copy(update={"trainer": place or config.TrainerPlacement()})
    return Training(CAPTIONER, section, 1.0, SETTINGS, runtime, 0)


@pytest.fixture(scope="module")
def rows(tiny: TinyTraining) -> list[ScoredRollout]:
    return tiny.rollouts(CAPTIONER)


def plan(rows: list[ScoredRollout], tiny: TinyTraining, writer: str | None = None) -> planning.Plan:
    """Two steps. `writer`: the service's name of the policy that wrote, if it is the one before."""
    return replace(planning.plan(rows, tiny.problems, rows[0].policy, 2), writer=writer)


def twice(
    service: Service, how: Training, rows: list[ScoredRollout], tiny: TinyTraining, out: Path, keep: bool, rest: bool
) -> dict[str, float]:
    """The first update, and a second one on captions that the initial policy wrote; metrics of the second."""

    def silent(done: int, total: int) -> None:
        pass

    service.begin(how, None, "first")
    service.update("first", "second", plan(rows, tiny), str(tiny.table), 0, silent, keep)
    assert service.earlier == ("first" if keep else None)
    if rest:
        service.save("second", out / TRAINER)
        service.rest()
        service.begin(how, out / TRAINER, "second")
    metrics = service.update("second", "third", plan(rows, tiny, "first"), str(tiny.table), 2, silent)
    service.export("third", out / "model")
    assert service.earlier is None
    return metrics


@pytest.fixture(scope="module")
def compared(rows: list[ScoredRollout], tiny: TinyTraining, tmp_path_factory: Any) -> tuple[Path, dict[str, float]]:
    out = tmp_path_factory.mktemp("compared")
    return out, twice(Inline(), training(), rows, tiny, out, keep=True, rest=False)


def test_the_gate_takes_the_weights_that_wrote_and_the_ratio_those_before_the_update(compared: Any) -> None:
    metrics = compared[1]
    assert metrics["logprob_gap"] < 1e-5 < 1e-3 < metrics["staleness_nats"]
    assert metrics["importance_ratio"] != pytest.approx(1.0, abs=1e-4)
    assert 0 <= metrics["importance_clipped"] < 1


def test_what_no_engine_wrote_is_not_what_is_compared(rows: list[ScoredRollout], tiny: TinyTraining) -> None:
    """A reference, the longest row by far, has a bin to itself."""
    service = Inline()
    service.begin(training(config.TrainerPlacement(tokens=1)), None, "first")
    service.update("first", "second", plan(rows, tiny), str(tiny.table), 0, lambda *_: None, True)
    place = max(i for i, row in enumerate(rows) if row.uid == rows[0].uid)
    known = {"sample": rows[place].sample + 1, "logprobs": (), "reference": True, "advantage": 2.0}
    reference = rows[place].model_copy(update=known | {"completion_ids": (rows[0].completion_ids * 4)[:30]})
    work = plan([*rows[: place + 1], reference, *rows[place + 1 :]], tiny, "first")
    metrics = service.update("second", "third", work, str(tiny.table), 2, lambda *_: None)
    assert metrics["logprob_gap"] < 1e-5


def test_without_these_weights_nothing_is_compared_and_the_policy_is_the_same_to_the_last_bit(
    compared: Any, rows: list[ScoredRollout], tiny: TinyTraining, tmp_path: Path
) -> None:
    """As when an update is taken again that was compared when it was taken first."""
    metrics = twice(Inline(), training(), rows, tiny, tmp_path, keep=False, rest=False)
    assert "logprob_gap" not in metrics
    assert metrics["staleness_nats"] == compared[1]["staleness_nats"]
    assert model_digest(tmp_path / "model") == model_digest(compared[0] / "model")


def test_they_outlive_a_rest(compared: Any, rows: list[ScoredRollout], tiny: TinyTraining, tmp_path: Path) -> None:
    metrics = twice(Inline(), training(), rows, tiny, tmp_path, keep=True, rest=True)
    assert metrics["logprob_gap"] == compared[1]["logprob_gap"]
    assert model_digest(tmp_path / "model") == model_digest(compared[0] / "model")


def test_captions_that_the_policy_before_did_not_write_are_refused(
    rows: list[ScoredRollout], tiny: TinyTraining, tmp_path: Path
) -> None:
    service = Inline()
    service.begin(training(), None, "first")
    service.update("first", "second", plan(rows, tiny), str(tiny.table), 0, lambda *_: None, True)
    others = [row.model_copy(update={"logprobs": tuple(value - 0.01 for value in row.logprobs)}) for row in rows]
    with pytest.raises(LogprobMismatch, match=r"differ by 0\.01 per token"):
        service.update("second", "third", plan(others, tiny, "first"), str(tiny.table), 2, lambda *_: None)
    assert service.policy is None and service.earlier is None


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Processes]:
    with forkserver.children():
        service = Processes(config.TrainerPlacement(processes=2, shard="fsdp"), tmp_path / "trainer.log")
        yield service
        service.close()


def test_weights_that_are_divided_among_processes(
    compared: Any, pair: Processes, rows: list[ScoredRollout], tiny: TinyTraining, tmp_path: Path
) -> None:
    how = training(config.TrainerPlacement(processes=2, shard="fsdp"))
    (tmp_path / "out").mkdir()
    metrics = twice(pair, how, rows, tiny, tmp_path / "out", keep=True, rest=False)
    assert metrics["logprob_gap"] < 1e-5
    assert metrics["staleness_nats"] == pytest.approx(compared[1]["staleness_nats"], rel=1e-3)
    files = [place / "model" / "model.safetensors" for place in (tmp_path / "out", compared[0])]
    one, other = map(load_file, files)
    assert max((one[name] - other[name]).abs().max().item() for name in one) < 1e-6
