"""One evaluation compares reasoners that live in different places: on nodes, behind an endpoint, in this process."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from flows.evaluation import evaluate
from racro.config import Reasoner, Server, loading
from racro.engines.opening import open_reasoner
from racro.evaluation.compare import read_results
from racro.models.folders import EMBEDDED
from racro.schema import Result
from tests.cluster.conftest import Nodes
from tests.conftest import EMBEDDED_RECIPE, TINY
from tests.support.talker import Talker, spoken_by

COUNT = 12


def said(rows: list[Result], reasoner: str = "embedded") -> list[tuple[str, str | None, str]]:
    return [(row.uid, row.caption, row.answer) for row in rows if row.reasoner == reasoner]


@pytest.mark.usefixtures("prefect_server")
def test_reasoners_on_nodes_behind_an_endpoint_and_here_say_the_same(nodes: Nodes, tmp_path: Path) -> None:
    """Captions come from a node too; where anything runs is no part of its identity."""
    recipe = loading.load(EMBEDDED_RECIPE, [*TINY, "runtime.device=cpu"])
    evaluate(recipe, "initial", limit=COUNT, run="here", root=str(tmp_path / "here"))
    away = Reasoner(model="away", engine=Server(), max_tokens=recipe.reasoner.max_tokens)
    (tmp_path / "near").symlink_to(EMBEDDED / "reasoner")
    near = recipe.reasoner.model_copy(update={"model": str(tmp_path / "near")})
    root = str(tmp_path / "there")
    model = open_reasoner(recipe.reasoner, str(EMBEDDED / "reasoner"), recipe.runtime)
    talker = Talker(spoken_by(model), models=("away",))
    with contextlib.closing(model), contextlib.ExitStack() as stack:
        stack.callback(talker.die)
        places = {"away": {"urls": [talker.url]}, "embedded": {"data_parallel": 2}, "near": {"cluster": False}}
        more = [f"runtime.cluster={json.dumps(nodes.settings())}", f"runtime.reasoners={json.dumps(places)}"]
        apart = loading.load(EMBEDDED_RECIPE, [*TINY, "runtime.device=cpu", *more])
        evaluate(apart, "initial", limit=COUNT, reasoners=(recipe.reasoner, away, near), run="there", root=root)
    here, there = (list(read_results(str(tmp_path / run), run)) for run in ("here", "there"))
    assert len(here) == COUNT == len(talker.asked)
    assert {row.reasoner for row in there} == {"embedded", "away", "near"}
    assert all(said(there, name) == said(here) for name in ("embedded", "away", "near"))
