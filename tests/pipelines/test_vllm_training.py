"""The embedded recipe trained with captioner and reasoner on vLLM: one as a library in a worker, one as a server."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from flows.training import train
from racro.config import loading
from racro.storage import artifacts
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
    "captioner.engine.type=vllm",
    "reasoner.engine.type=server",
)


def test_captions_of_swapped_weights_have_the_trainers_log_probs_and_the_captioner_learns(tmp_path: Path) -> None:
    """The captioner in a worker, the reasoner as a server; adapters and the rest of the matrix: test_lora, engines."""
    opened: dict[str, set[int]] = {"captioner": set(), "reasoner": set()}

    def observe(stage: str, done: int, total: int) -> None:
        for role, cached in engines._cached.items():
            opened[role].add(id(cached.engine))

    progress.observers.append(observe)
    try:
        recipe = loading.load(EMBEDDED_RECIPE, SMALL)
        summary = train(recipe, run="vllm", root=str(tmp_path))
    finally:
        progress.observers.remove(observe)

    assert {role: len(ids) for role, ids in opened.items()} == {"captioner": 1, "reasoner": 1}, "swapped, not restarted"
    gaps = [gap for record in records(tmp_path) if (gap := record.metrics.get("logprob_gap")) is not None]
    assert len(gaps) == 3, "parity and two updates; the second on captions of swapped weights"
    assert max(gaps) <= 1e-4
    noise = math.hypot(summary.base.stderr, summary.final.stderr)
    assert summary.final.accuracy > summary.base.accuracy + 2 * noise


def records(root: Path) -> list[artifacts.Record]:
    found = [artifacts.read_record(str(folder)) for folder in root.glob("artifacts/*/*")]
    return [record for record in found if record is not None]
