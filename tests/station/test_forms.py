"""What a deployment's flow makes of its form: a recipe by name, path or YAML, and one line for what is wrong."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.utilities.names import generate_slug

from flows import deployed
from flows.invented_names import invented
from racro.config import loading
from racro.identity import recipe_digest

CROSSED = {"rollout": {"problems": 8}, "update": {"mini_batch": 9}}
WHY = "update.mini_batch (9 problems) is larger than rollout.problems (8): a mini-batch is a part of an iteration"
MISTAKES: dict[str, tuple[Flow[..., Any], dict[str, Any], str]] = {
    "name": (deployed.train, {"recipe": "smok"}, "smok: no recipe has this name; did you mean smoke?"),
    "file": (deployed.train, {"recipe": "mine.yaml"}, "mine.yaml: no such recipe file"),
    "yaml": (deployed.prepare, {"recipe": "a: b: c"}, "recipe: line 1 not valid YAML"),
    "override": (
        deployed.evaluate,
        {"recipe": "smoke", "overrides": ["seed"]},
        "overrides seed: write it as path=",
    ),
    "crossed keys as text": (deployed.train, {"recipe": json.dumps(CROSSED)}, WHY),
    "crossed keys in the full form": (deployed.train_full, {"recipe": CROSSED}, WHY),
    "name of the run": (deployed.train, {"recipe": "smoke", "run": "../x"}, "--run ../x: a name is letters"),
}


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_the_one_line_of_a_failed_run(name: str) -> None:
    flow, parameters, line = MISTAKES[name]
    state: State[Any] = flow(**parameters, root="/nowhere", return_state=True)
    assert state.is_failed() and state.message is not None
    assert line in state.message and "\n" not in state.message


@pytest.mark.parametrize("written", ["smoke", "iterations: 1\nproblems: {type: embedded}", "{iterations: 1}"])
def test_a_form_takes_a_name_or_yaml_with_overrides(written: str) -> None:
    recipe = loading.read(written, ["iterations=2", "update.loss=grpo"])
    assert (recipe.iterations, recipe.update.loss) == (2, "grpo")


def test_a_name_and_its_text_are_the_same_recipe() -> None:
    by_name = loading.read("embedded")
    assert recipe_digest(loading.read(loading.dump(by_name))) == recipe_digest(by_name)


TYPED = ("nightly 12", "my-experiment", "first-experiment", "beta", "owl", "seed-3", "Ambitious-Owl", "beta-4")


@given(st.integers(0, 2**32 - 1))
def test_the_names_of_prefects_api_are_invented(seed: int) -> None:
    random.seed(seed)
    assert invented(generate_slug(2))


@pytest.mark.parametrize("name", ["beta4-orionis", "alpha1038-antliae", "nu-meridiana-nebula", "tau6-canis-majoris-x"])
def test_the_names_of_prefects_form_are_invented(name: str) -> None:
    assert invented(name)


@pytest.mark.parametrize("name", TYPED)
def test_the_names_of_people_are_not(name: str) -> None:
    assert not invented(name)
