"""Beside a policy stands what it was made from, wherever the root is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racro import config
from racro.schema import Policy, ProblemTable, ScoredTable
from racro.storage import layout
from racro.training.lineage import Lineage, NoLineage
from tests.support.examples import examples

NAMES = st.text("abcdef0123456789", min_size=1, max_size=20)


@settings(max_examples=examples(30), deadline=None)
@given(NAMES, NAMES, NAMES, st.booleans(), st.integers(0, 10**6))
def test_a_root_that_was_moved_has_the_same_lineage(
    tmp_path_factory: pytest.TempPathFactory, one: str, other: str, model: str, first: bool, step: int
) -> None:
    """Handles below the root follow it; the initial model, which lies elsewhere, stays."""
    place = tmp_path_factory.mktemp("roots")
    root, moved = str(place / f"r{one}"), str(place / f"s{other}")
    initial = Policy(uri=f"/models/{model}", rows=0, digest="a" * 64)
    before = initial if first else Policy(uri=f"{root}/artifacts/update/{one}", rows=0, digest=other * 3, step=step)
    line = Lineage(
        policy=before,
        scored=ScoredTable(uri=f"{root}/artifacts/compose/{one}", rows=8, digest=one),
        problems=ProblemTable(uri=f"{root}/artifacts/prepare/{other}", rows=2, digest=other),
        initial=initial,
        captioner=config.Captioner(),
        temperature=1.0,
        config=config.UpdateSettings(),
        seed=step,
    )
    made = Policy(uri=f"{root}/artifacts/update/{other}/attempt", rows=0, digest="b", step=step + 1)
    line.write(made.uri, root)
    assert Lineage.read(made) == line
    Path(root).rename(moved)
    found = Lineage.read(made.model_copy(update={"uri": made.uri.replace(root, moved)}))
    assert found.scored.uri == f"{moved}/artifacts/compose/{one}"
    assert found.initial == initial and found.policy.uri == before.uri.replace(root, moved)
    assert found.config == line.config


def test_a_policy_without_lineage_says_what_to_do(tmp_path: Path) -> None:
    lost = Policy(uri=f"{tmp_path}/artifacts/update/abc", rows=0, digest="b", step=1)
    with pytest.raises(NoLineage, match=f"no {layout.LINEAGE}.*; delete what is left of the folder"):
        Lineage.read(lost)
