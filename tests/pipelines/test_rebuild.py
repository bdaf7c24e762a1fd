"""The flow `rebuild` makes the two embedded models from nothing; here with a few steps of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from flows.rebuilding import rebuild
from racro.embedded.rebuild import RECIPE_FILE, recipe_digest
from racro.models import folders
from tasks.running import observing

CPU = torch.device("cpu")


@pytest.mark.usefixtures("prefect_server")
def test_a_short_rebuild_runs_from_nothing_to_loadable_models(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    observing.observers.append(lambda name, step, steps: seen.append((name, step, steps)))
    try:
        rebuild(tmp_path, steps_scale=0.003)
    finally:
        observing.observers.pop()
    assert {name for name, step, steps in seen if step == steps} == {"captioner", "reasoner"}
    assert json.loads((tmp_path / RECIPE_FILE).read_text())["digest"] != recipe_digest()
    for role in ("captioner", "reasoner"):
        shipped = json.loads((folders.EMBEDDED / role / "config.json").read_text())
        assert json.loads((tmp_path / role / "config.json").read_text()) == shipped
    folders.load_processor(tmp_path / "captioner")
    folders.load_captioner(tmp_path / "captioner", "float32", CPU)
    folders.load_reasoner(tmp_path / "reasoner", "float32", CPU)
