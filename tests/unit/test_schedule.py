"""Which policy writes the captions of an iteration? A pure function of the recipe."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racro.config import Recipe, RolloutSettings, loading
from racro.config.loading import BadRecipe
from racro.identity import computed, fingerprint
from racro.schedule import rounds
from tests.support.examples import examples

STAGES = st.lists(
    st.fixed_dictionaries(
        {
            "iterations": st.integers(1, 4),
            "rollout": st.fixed_dictionaries({}, optional={"lag": st.integers(0, 1)}),
            "start": st.sampled_from(["fresh", "continued"]),
        }
    ),
    max_size=4,
)


@settings(max_examples=examples(25))
@given(STAGES, st.integers(0, 1))
def test_captions_are_at_most_one_update_old_and_those_that_begin_a_stage_are_not(stages: list[dict], lag: int) -> None:
    if stages:
        stages[0]["start"] = "fresh"
    recipe = Recipe.model_validate({"iterations": 3, "rollout": {"lag": lag}, "stages": stages})
    before = None
    for one in rounds(recipe):
        behind = one.phase.rollout.lag if before is not None and before.stage == one.stage else 0
        assert one.writer == one.number - behind
        assert one.ahead == bool(behind)
        before = one
    made = [one.writer for one in rounds(recipe)]
    assert all(later - earlier in (0, 1, 2) for earlier, later in itertools.pairwise(made))


def test_without_lag_nothing_has_another_identity_and_stages_that_sample_get_none() -> None:
    assert "lag" not in fingerprint(RolloutSettings())
    assert "lag" in fingerprint(RolloutSettings(lag=1)) and fingerprint(RolloutSettings(lag=1).alone()) == fingerprint(
        RolloutSettings()
    )
    assert computed(Recipe(rollout=RolloutSettings(lag=1))) != computed(Recipe())


@pytest.mark.parametrize("value", ["2", "-1", "true"])
def test_another_lag_is_refused_with_the_reason(value: str) -> None:
    with pytest.raises(
        BadRecipe, match=r"rollout(\.|: )lag: .*(because the trainer keeps the weights of one|give a value)"
    ):
        loading.load("embedded", [f"rollout.lag={value}"])
