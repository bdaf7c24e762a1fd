"""`racro plan --cluster`: GPUs that are not there yet, divided, priced, and said in a page and in JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.app import app


def said(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["plan", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_machines_are_divided_and_every_assumption_is_said(tmp_path: Path) -> None:
    cluster, rates = tmp_path / "cluster.yaml", tmp_path / "rates.yaml"
    cluster.write_text("{nodes: 2, gpus: 4, gpu: L40S}")
    rates.write_text("{lengths: {prompt: 50, caption: 8, answer: 5}, train: 0.123}")
    arguments = ("embedded", "--root", str(tmp_path / "runs"), "--cluster", str(cluster), "--rates", str(rates))
    found = json.loads(said(*arguments, "--rate", "2", "--json"))
    split = found["split"]["gpus"]
    assert set(split) == {"trainer", "captioner", "reasoner"} and sum(split.values()) <= 8
    assert found["cost"] == pytest.approx(8 * 2 * found["seconds"] / 3600)
    assert found["seconds"] == pytest.approx(found["split"]["seconds"], abs=0.1)
    said_so = " ".join(found["assumptions"])
    assert "12% of a GPU's matrix products" in said_so and "caption 8" in said_so and "48 GB" in said_so
    captions = next(part for part in found["parts"] if part["name"] == "captions")
    assert captions["tokens"] == 8 * captions["units"] == 8 * 8 * 128 * 8
    page = said(*arguments)
    assert "Taken for granted" in page and "trainer" in page and "Cost" not in page


def test_on_a_cluster_the_gpus_are_those_that_it_reserves(tmp_path: Path) -> None:
    """One for each copy of captioner and reasoner, and for each process of the trainer."""
    keys = ("runtime.cluster={type: ray}", "runtime.trainer.processes=8", "runtime.trainer.shard=fsdp")
    arguments = ("smoke", "--root", str(tmp_path), "--rate", "2.5", *(part for key in keys for part in ("--set", key)))
    assert "Memory   10 GPUs of the cluster" in (page := said(*arguments)) and "no GPUs are used" not in page
    assert "it runs on CPUs" in said(*arguments, "--set", "runtime.device=cpu")


def test_a_sweep_is_planned_as_a_whole(tmp_path: Path) -> None:
    arguments = ("smoke", "--root", str(tmp_path), "--axis", "update.learning_rate=1e-4,1e-3", "--seeds", "2", "--json")
    found = json.loads(said(*arguments))
    updates = next(part for part in found["parts"] if part["name"] == "update")
    captions = next(part for part in found["parts"] if part["name"] == "captions")
    assert (found["trainings"], updates["runs"], captions["runs"]) == (4, 4, 2), "a seed's captions are shared"


@pytest.mark.parametrize("search", ["random", "optuna"])
def test_points_that_are_drawn_or_proposed_are_planned_too(tmp_path: Path, search: str) -> None:
    axis = ("--axis", "update.learning_rate=1e-5..1e-3")
    arguments = ("smoke", "--root", str(tmp_path), f"--{search}", "6", "--json")
    found = json.loads(said(*arguments, *axis))
    updates = next(part for part in found["parts"] if part["name"] == "update")
    assert found["trainings"] == updates["runs"] == 6
    guessed = "of Optuna's points the first 4 are known; the others depend on what these reach"
    assert (guessed in found["assumptions"]) == (search == "optuna")
    assert "--axis: is required" in str(CliRunner().invoke(app, ["plan", *arguments]).exception)
