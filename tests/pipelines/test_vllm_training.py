"""The embedded recipe trained with captioner and reasoner on vLLM: as a library in workers, and as servers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from flows.training import train
from racro.config import loading
from racro.storage import artifacts
from racro.summary import Summary
from tasks.running import engines, progress
from tests.conftest import EMBEDDED_RECIPE, TINY

pytestmark = pytest.mark.usefixtures("prefect_server")

SMALL = (
    *TINY,
    "problems.count=64",
    "rollout.problems=32",
    "rollout.group_size=8",
    "update.mini_batch=16",
    "evaluation.problems=256",
)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Summary:
    return train(loading.load(EMBEDDED_RECIPE, SMALL), run="reference", root=str(tmp_path_factory.mktemp("reference")))


@pytest.mark.parametrize("engine", ["vllm", "server"])
def test_vllm_trains_as_the_transformers_engine_does(reference: Summary, tmp_path: Path, engine: str) -> None:
    opened: dict[str, set[int]] = {"captioner": set(), "reasoner": set()}

    def observe(stage: str, done: int, total: int) -> None:
        for role, cached in engines._cached.items():
            opened[role].add(id(cached.engine))

    progress.observers.append(observe)
    try:
        recipe = loading.load(
            EMBEDDED_RECIPE, [*SMALL, f"captioner.engine.type={engine}", f"reasoner.engine.type={engine}"]
        )
        summary = train(recipe, run=engine, root=str(tmp_path))
    finally:
        progress.observers.remove(observe)

    assert {role: len(ids) for role, ids in opened.items()} == {"captioner": 1, "reasoner": 1}, "swapped, not restarted"
    gaps = [gap for record in records(tmp_path) if (gap := record.metrics.get("logprob_gap")) is not None]
    assert len(gaps) == 3, "parity and two updates; the second on captions of swapped weights"
    assert max(gaps) <= 1e-4
    # The held-out problems are the same, and so are the initial captions up to rounding.
    assert summary.base.accuracy == pytest.approx(reference.base.accuracy, abs=2 / 256)
    noise = math.hypot(summary.final.stderr, reference.final.stderr)
    assert abs(summary.final.accuracy - reference.final.accuracy) < 3 * noise
    assert summary.final.accuracy > summary.base.accuracy + 2 * noise


def records(root: Path) -> list[artifacts.Record]:
    found = [artifacts.read_record(str(folder)) for folder in root.glob("artifacts/*/*")]
    return [record for record in found if record is not None]
