"""`make bench-gpu` at tiny sizes: every row measures something, and one that fails does not end the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench import gpu
from tests.bench.gpu_rows import Bench


def test_every_row_measures_something(tmp_path: Path) -> None:
    rows = gpu.run(["tiny"], tmp_path)
    assert [(row.what, row.failed) for row in rows if row.failed] == [
        ("captions, vLLM", "vLLM for GPUs is not installed")
    ] or gpu.torch.cuda.is_available()
    by_name = {row.what: row for row in rows if not row.failed}
    assert by_name["captions, transformers"].figures["tokens_per_s"] > 0
    for kind in ("full", "lora"):
        grouped, plain = (by_name[f"update, {kind}, {way}, sdpa"].figures for way in ("grouped", "plain"))
        assert grouped["grad_norm"] == pytest.approx(plain["grad_norm"], rel=0.05), "the same update"
        assert grouped["of_peak"] > 0 and grouped["predicted_gib"] > 0
        assert by_name[f"update, {kind}, on the engine's captions"].figures["logprob_gap"] < 0.01
        assert by_name[f"largest bin, {kind}"].figures["largest"] == 1024
    assert by_name["log-probs, grouped, sdpa"].figures["gap"] < 0.01
    assert by_name["log-probs, grouped, sdpa"].figures["bins"] < by_name["log-probs, plain, sdpa"].figures["bins"]
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert [row["what"] for row in written["rows"]] == [row.what for row in rows]
    assert len((tmp_path / "gpu.txt").read_text().splitlines()) == 2 + len(rows)


def test_a_row_that_fails_says_why_and_the_next_one_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Bench, *_: Any, **__: Any) -> Any:
        raise gpu.torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Bench, "caption", full)
    monkeypatch.setattr(Bench, "load", full)
    rows = {row.what: row for row in gpu.run(["tiny"], tmp_path)}
    assert rows["captions, transformers"].failed == "OutOfMemoryError: CUDA out of memory"
    assert rows["trainer loaded, lora, beta 0"].failed, "the last one was tried too"
    assert rows["random weights written"].figures["parameters"] > 0


def test_no_row_begins_after_its_time(tmp_path: Path) -> None:
    rows = gpu.run(["tiny"], tmp_path, budget=0)
    assert {row.failed for row in rows} == {"no time left"}
