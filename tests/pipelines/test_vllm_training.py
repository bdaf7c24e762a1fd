"""The embedded recipe trained with the captioner on vLLM, as a library in a worker."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from flows.training import train
from racro.config import loading
from racro.storage import artifacts
from tasks.running import engines, observing
from tests.conftest import EMBEDDED_RECIPE, TINY

pytestmark = pytest.mark.usefixtures("prefect_server", "forked_engines")

SMALL = (
    *TINY,
    "problems.count=64",
    "rollout.problems=16",
    "rollout.group_size=8",
    "update.mini_batch=8",
    "evaluation.problems=64",
    "captioner.engine.type=vllm",
)


def test_captions_of_swapped_weights_have_the_trainers_log_probs(tmp_path: Path) -> None:
    """Adapters behind a server: test_lora. Engines by themselves, reasoners too: tests/engines."""
    opened: set[int] = set()

    def observe(stage: str, done: int, total: int) -> None:
        opened.update(id(cached.engine) for role, cached in engines._cached.items() if role == "captioner")

    observing.observers.append(observe)
    try:
        recipe = loading.load(EMBEDDED_RECIPE, SMALL)
        summary = train(recipe, run="vllm", root=str(tmp_path))
    finally:
        observing.observers.remove(observe)

    assert len(opened) == 1, "swapped, not restarted"
    gaps = [gap for record in records(tmp_path) if (gap := record.metrics.get("logprob_gap")) is not None]
    assert len(gaps) == 3, "parity and two updates; the second on captions of swapped weights"
    assert max(gaps) <= 1e-4
    assert summary.final.accuracy > summary.base.accuracy - 3 * math.hypot(summary.base.stderr, summary.final.stderr)


def records(root: Path) -> list[artifacts.Record]:
    found = [artifacts.read_record(str(folder)) for folder in root.glob("artifacts/*/*")]
    return [record for record in found if record is not None]
