"""A truth value is no number and a number no truth value, at every key of a recipe; GPUs are given by numbers."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from racro.config import Recipe, loading
from racro.config.base import models_in
from racro.config.loading import BadRecipe
from tests.conftest import EMBEDDED_RECIPE


def _all() -> list[tuple[type[BaseModel], str]]:
    models: list[type[BaseModel]] = [Recipe]
    for model in models:  # grows while it is walked through
        for field in model.model_fields.values():
            models += [below for below in models_in(field.annotation) if below not in models]
    return [(model, name) for model in models for name in model.model_fields]


def _mentions(annotation: Any, kind: type) -> bool:
    return annotation is kind or any(_mentions(inner, kind) for inner in get_args(annotation))


def _fields(*kinds: type) -> list[tuple[type[BaseModel], str]]:
    """Keys that can hold one of these, below which no section is."""
    annotations = ((one, one[0].model_fields[one[1]].annotation) for one in _all())
    return [one for one, held in annotations if not models_in(held) and any(_mentions(held, kind) for kind in kinds)]


TRUTHS = _fields(bool)
NUMBERS = [one for one in _fields(int, float) if one not in TRUTHS]
ONLY_TRUTHS = [
    one for one in TRUTHS if not any(_mentions(one[0].model_fields[one[1]].annotation, k) for k in (int, str))
]


def _refused(model: type[BaseModel], name: str, value: object) -> str:
    with pytest.raises(ValidationError) as caught:
        model.model_validate({name: value})
    [problem] = caught.value.errors(include_url=False)
    return str(problem["msg"])


@pytest.mark.parametrize("at", NUMBERS, ids=lambda at: f"{at[0].__name__}.{at[1]}")
@given(truth=st.booleans(), deep=st.sampled_from(["{}", "[{}]", "[1, {}]", "{{a: {}}}", "{{a: {{b: {}}}}}"]))
def test_a_truth_value_is_no_number(at: tuple[type[BaseModel], str], truth: bool, deep: str) -> None:
    model, name = at
    value = yaml.safe_load(deep.format(str(truth).lower()))
    assert f"{name}: give a number, not {str(truth).lower()}" in _refused(model, name, value)


@pytest.mark.parametrize("at", ONLY_TRUTHS, ids=lambda at: f"{at[0].__name__}.{at[1]}")
@given(value=st.integers() | st.floats() | st.sampled_from(["yes", "off", "true", "0", ""]))
def test_a_truth_value_is_true_or_false(at: tuple[type[BaseModel], str], value: object) -> None:
    model, name = at
    assert f"{name}: give true or false, not {value!r}" in _refused(model, name, value)


def test_both_kinds_of_keys_are_found() -> None:
    assert len(NUMBERS) > 100 and len(ONLY_TRUTHS) > 5
    assert {name for _, name in NUMBERS} >= {"seed", "iterations", "gpus", "learning_rate", "shares", "resources"}


@given(st.integers(min_value=1, max_value=10**6))
def test_a_whole_number_may_have_a_point(number: int) -> None:
    assert loading.load(str(EMBEDDED_RECIPE), [f"iterations={number}.0"]).iterations == number
    with pytest.raises(BadRecipe, match="iterations: input should be a valid integer"):
        loading.load(str(EMBEDDED_RECIPE), [f"iterations={number}.5"])


ROLES = ("captioner", "reasoner", "reasoners.embedded-reasoner", "judges.second", "trainer")
JUDGE = "judges.second={model: embedded/reasoner, engine: {type: transformers}}"
WRONG = {
    "[true]": "gpus: give a number, not true",
    "[0, false]": "gpus: give a number, not false",
    **dict.fromkeys(
        ("[1.0]", "['0']", "[-1]", "0", "'0,1'", "[null]", "[[0]]", "all", "{0: 1}"), "gpus: give a list of"
    ),
    "[0, 0]": "gpus: [0, 0] names a GPU twice; name each once",
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("gpus", WRONG)
def test_gpus_are_given_by_their_numbers(role: str, gpus: str) -> None:
    changes = [JUDGE] if role.startswith("judges") else []
    with pytest.raises(BadRecipe) as caught:
        loading.load(str(EMBEDDED_RECIPE), [*changes, f"runtime.{role}.gpus={gpus}"])
    message = str(caught.value).replace(": gpus", ".gpus")
    assert message.startswith(f"{EMBEDDED_RECIPE}: runtime.{role}.{WRONG[gpus]}") and "\n" not in message


@pytest.mark.parametrize("role", ROLES)
def test_a_list_of_gpus_is_read_as_it_stands(role: str) -> None:
    changes = [JUDGE] if role.startswith("judges") else []
    if role == "trainer":
        changes.append("runtime.trainer.shard=ddp")
    read = loading.load(str(EMBEDDED_RECIPE), [*changes, f"runtime.{role}.gpus=[3, 0]"]).runtime
    assert (read.trainer if role == "trainer" else read.place(role)).gpus == (3, 0)
