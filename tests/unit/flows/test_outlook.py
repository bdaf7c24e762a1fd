"""What a training says at its start is short, and says what is not known."""

from __future__ import annotations

from pathlib import Path

from flows.outlook import lines, outlook
from flows.rehearsal import PROMISED, Models, rehearse
from racro.config import loading
from racro.planning.estimate import Costs
from racro.planning.measured import Line, Measured, Rate
from racro.schema import FrozenModel, Policy

RECIPE = loading.load("smoke")
MODELS = Models(Policy(uri=PROMISED, rows=0, digest="policy"), FrozenModel(uri=PROMISED, rows=0, digest="reasoner"), {})


def test_a_root_without_records_tells_what_will_run_and_not_how_long(tmp_path: Path) -> None:
    first, second, *_ = outlook(RECIPE, str(tmp_path), MODELS)
    assert first.startswith("0 stages are done already; to run: ") and "update 1" in first
    assert second.startswith("how long is not known: this root has no records of preparation, captions, ")


def test_records_tell_how_long_and_how_large(tmp_path: Path) -> None:
    calls = rehearse(RECIPE, str(tmp_path), MODELS)
    rate = Rate(Line(1.0, 0.0), 0.0, Line(1e6, 0.0), None, 1)
    kinds = [call.kind for call in calls]
    known = Measured(
        dict.fromkeys(kinds, rate), dict.fromkeys(kinds, 0.5), dict.fromkeys(kinds, 0.0), dict.fromkeys(kinds, 0.0)
    )
    _, second = lines(Costs(known).estimate(RECIPE, [calls], remote=False))
    assert second == f"about {len(calls)} s, by the records of this root; {len(calls)}.0 MB will be written"
