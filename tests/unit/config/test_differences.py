"""What differs from the defaults is enough to write a recipe, and what differs between two is named by its path."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from racro.config import Recipe, differences, loading
from tests.support.examples import examples

CHANGES = (
    "seed=1",
    "captioner.engine.type=vllm",
    "captioner.lora={}",
    "judges={reader: {model: embedded}}",
    "rewards=[{type: answer}, {type: length, weight: 0.5, gate: answer}]",
    "problems={type: table, source: x.jsonl, columns: {facts: facts}}",
    "curriculum={type: pools, easy: 0.9}",
    "advantage.type=gdpo",
    "runtime.judges={reader: {gpus: [1]}}",
    "runtime.trainer.tokens=1",
    "stages=[{iterations: 1}, {update: {beta: 0.0}, rewards: [{type: answer, weight: 2}]}]",
    "alarms.kl.action=stop",
)


@settings(max_examples=examples(40))
@given(st.sampled_from(loading.names()), st.lists(st.sampled_from(CHANGES), unique=True))
def test_what_is_shown_is_the_same_recipe_and_every_key_is_there(name: str, changes: list[str]) -> None:
    if any(change.startswith("runtime.judges") for change in changes):
        changes.append(CHANGES[3])
    try:
        recipe = loading.load(name, changes)
    except loading.BadRecipe:
        return  # these changes do not go together
    text = differences.text(recipe)
    assert loading.parse(yaml.safe_load(text) or {}, "shown") == recipe
    shown = {line.strip("# -{").partition(":")[0] for line in text.splitlines()}
    assert shown >= recipe.model_dump().keys()


def test_the_defaults_differ_from_themselves_in_nothing() -> None:
    assert differences.changed(Recipe()) == {}
    assert differences.unchanged(Recipe()) == Recipe().model_dump(mode="json")


def test_an_override_is_the_one_difference() -> None:
    recipes = {"a": loading.load("embedded"), "b": loading.load("embedded", ["rollout.group_size=4"])}
    assert differences.between({name: one.model_dump(mode="json") for name, one in recipes.items()}) == {
        "rollout.group_size": {"a": 8, "b": 4}
    }


@pytest.mark.parametrize("name", loading.names())
def test_no_default_is_shown_as_a_difference(name: str) -> None:
    shown = differences.changed(loading.load(name))
    fields = Recipe.model_fields
    plain = [key for key, value in shown.items() if value == fields[key].default and not isinstance(value, list)]
    assert plain == []
