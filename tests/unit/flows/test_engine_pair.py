"""What answers, from the command line: a device that is not here is refused before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.engine_pair import BadOption, Models, given_recipe
from racro.config import loading
from racro.models.devices import NoDevice

AWAY = "runtime.device: xpu:3: torch finds no such device here"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A root with a run that was trained on a device that is not here."""
    recipe = loading.load("smoke", ["runtime.device=xpu:3"])
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "recipe.yaml").write_text(loading.dump(recipe))
    return tmp_path


def test_a_recipes_device_that_is_not_here_answers_nothing(runs: Path) -> None:
    with pytest.raises(NoDevice, match=AWAY):
        given_recipe(Models(recipe=str(runs / "far" / "recipe.yaml")))


def test_a_runs_device_that_is_not_here_has_a_remedy_that_can_be_typed(runs: Path) -> None:
    with pytest.raises(BadOption, match=rf"--run far: {AWAY}.*; or give .*: --recipe FILE --policy far"):
        given_recipe(Models(run="far", root=str(runs)))


def test_endpoints_need_no_device_here(runs: Path) -> None:
    urls = {"captioner_urls": ["http://a/v1"], "reasoner_urls": ["http://b/v1"]}
    assert given_recipe(Models(run="far", root=str(runs), **urls))
