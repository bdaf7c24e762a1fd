"""Recipe section `stages`: what a stage changes, what is refused, and what counts in digests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from racro.config import Recipe, RolloutSettings, UpdateSettings, loading
from racro.config.loading import BadRecipe
from racro.identity import recipe_digest

TWO = (
    "stages=[{objective: answer, iterations: 2, update: {beta: 0.0}, rollout: {group_size: 4}}, "
    "{iterations: 3, rewards: [{type: answer}, {type: describes, weight: 0.1, gate: answer}]}]"
)

DIGESTS = {
    "embedded": "bcf9481ff3056a4e",
    "racro-3b": "c9ed5b836acd6499",
    "racro-32b": "b67db1c0aaf053b3",
    "smoke": "c8237564eac7ddfc",
}
"""Of recipes from before there were stages."""


def two(*overrides: str) -> Recipe:
    return loading.load("embedded", [TWO, *overrides])


@pytest.mark.parametrize("name", DIGESTS)
def test_recipes_without_stages_are_what_they_were(name: str) -> None:
    recipe = loading.load(name)
    assert recipe_digest(recipe).startswith(DIGESTS[name])
    assert recipe.phases == (recipe,)
    assert recipe.rounds == recipe.iterations


def test_a_stage_has_what_it_changes_and_the_rest_from_the_recipe() -> None:
    answers, captions = two("update.learning_rate=0.01").phases
    assert (answers.objective, answers.iterations, answers.rollout.group_size, answers.update.beta) == (
        "answer",
        2,
        4,
        0,
    )
    assert (captions.objective, captions.iterations, captions.rollout.group_size) == ("caption", 3, 8)
    assert [phase.update.learning_rate for phase in (answers, captions)] == [0.01, 0.01]
    assert [[reward.type for reward in phase.rewards] for phase in (answers, captions)] == [
        ["answer"],
        ["answer", "describes"],
    ]
    assert two().rounds == 5


@given(
    st.lists(
        st.fixed_dictionaries(
            {"iterations": st.integers(1, 9)},
            optional={
                "objective": st.sampled_from(["caption", "answer"]),
                "rollout": st.fixed_dictionaries({}, optional={"group_size": st.integers(2, 9)}),
                "update": st.fixed_dictionaries({}, optional={"beta": st.floats(0, 1), "loss_length": st.none()}),
            },
        ),
        min_size=1,
        max_size=3,
    )
)
def test_what_is_dumped_is_the_same_recipe_and_holds_what_was_given_alone(stages: list[dict[str, Any]]) -> None:
    recipe = Recipe.model_validate({"stages": stages})
    again = Recipe.model_validate(json.loads(recipe.model_dump_json()))
    assert again == recipe
    assert recipe_digest(again) == recipe_digest(recipe)
    for written, phase in zip(stages, recipe.phases, strict=True):
        assert phase.rollout == RolloutSettings(**written.get("rollout", {}))
        assert phase.update == UpdateSettings(**written.get("update", {}))
        assert phase.stages == ()


def test_sweeps_change_stages_and_what_they_share() -> None:
    recipe = two()
    changed = loading.override(recipe, ["stages.1.update.learning_rate=1e-3", "update.clip_high=0.3"], "--axis")
    answers, captions = changed.phases
    assert (answers.update.learning_rate, captions.update.learning_rate) == (5e-4, 1e-3)
    assert (answers.update.clip_high, captions.update.clip_high) == (0.3, 0.3)
    assert loading.override(recipe, ["stages.0.rewards.0.truncated=unscored"], "--axis").phases[0].rewards[0]
    assert yaml.safe_load(loading.dump(changed))["stages"][1]["update"] == {"learning_rate": 1e-3}


def test_the_digest_is_that_of_what_the_stages_do() -> None:
    digest = recipe_digest(two())
    assert recipe_digest(two("stages.1.rollout.group_size=8")) == digest, "as the recipe says anyway"
    assert recipe_digest(two("stages.1.start=continued")) != digest
    assert recipe_digest(two("stages.1.rollout.group_size=9")) != digest
    assert recipe_digest(two("stages.0.objective=caption")) != digest


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["stages.1.update.mini_batch=0"], "stages.1.update.mini_batch: input should be greater than 0, not 0"),
        (["stages.1.update.mni_batch=4"], "stages.1.update.mni_batch: unknown key; did you mean mini_batch?"),
        (["stages.1.update.beta=true"], "stages.1.update: beta: give a number, not true"),
        (
            ["stages.1.update.mini_batch=500"],
            "stages.1.update.mini_batch (500 problems) is larger than rollout.problems (128): a mini-batch is a part "
            "of an iteration",
        ),
        (["stages.1.update.loss=dr_grpo"], "stages.1.update: loss dr_grpo divides by a constant number of tokens"),
        (["stages.1.rewards=[{type: nothing}]"], "stages.1.rewards.0.type: must be one of answer, "),
        (["stages.1.reward=3"], "stages.1.reward: unknown key; did you mean rewards?"),
        (["stages.0.start=continued"], "stages: the first stage has nothing to go on from"),
        (
            ["stages.1.start=continued", "stages.1.update.freeze=[vision]"],
            "stages.1.start: continued goes on with the optimizer of the stage before, so update.freeze and ",
        ),
        (
            ["stages.1.start=continued", "stages.1.curriculum={type: pools, profile: 2}"],
            "stages.1.curriculum.profile: pass rates are measured where a stage starts fresh",
        ),
        (
            ["stages.0.rewards=[{type: answer}, {type: describes, gate: answer}]"],
            "stages.0.rewards.1: describes judges captions, and with objective answer the policy writes none; give "
            "other rewards there, for example [{type: answer}]",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(overrides: Sequence[str], line: str) -> None:
    with pytest.raises(BadRecipe) as caught:
        two(*overrides)
    assert str(caught.value).partition(".yaml: ")[2].startswith(line)


def test_the_form_shows_no_defaults_for_what_a_stage_may_leave_out() -> None:
    forms = Recipe.model_json_schema()["$defs"]
    for section in ("RolloutSettings", "UpdateSettings"):
        keys = forms[f"{section}Changes"]["properties"]
        assert keys.keys() == forms[section]["properties"].keys()
        assert not any("default" in key for key in keys.values())
        assert "required" not in forms[f"{section}Changes"]
