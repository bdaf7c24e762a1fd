"""The tables of docs/scaling.md are what the planner says."""

from __future__ import annotations

from pathlib import Path

from tests.docs.scaling import PAGE, page


def test_the_tables_are_current(tmp_path: Path) -> None:
    stale = "docs/scaling.md is stale: run `python -m tests.docs.scaling` and commit it"
    assert PAGE.read_text(encoding="utf-8") == page(tmp_path), stale
