"""The reference of keys knows every key that a recipe can have, and finds it as people write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro.config import Recipe, differences, keys, loading
from racro.config.keys import UnknownKey
from racro.config.shipped import shipped

PATHS = sorted(
    {path for name in loading.names() for path in differences.flat(loading.load(name).model_dump(mode="json"))}
)
"""Of all values in all shipped recipes."""


@given(st.sampled_from(PATHS))
def test_every_key_of_a_shipped_recipe_is_explained(path: str) -> None:
    [(found, section, key), *_] = keys.explain(path.removesuffix(".0"))
    assert key.text and key.type and found.rpartition(".")[2] == key.name
    assert section.changes_the_result is not path.startswith(("runtime.", "alarms."))


def test_every_kind_has_its_name_also_where_it_must_be_said() -> None:
    kinds = {kind for section in keys.sections() for kind in section.kinds}
    assert "ray" in kinds and "PydanticUndefined" not in kinds


def test_every_key_says_what_it_is_and_a_required_one_has_no_default() -> None:
    listed = [(section.paths[0], key) for section in keys.sections() for key in section.keys]
    assert [f"{path}.{key.name}" for path, key in listed if not key.text] == []
    assert {f"{path}.{key.name}" for path, key in listed if key.default is None} >= {
        "judges.NAME.model",
        "rewards.N.type",
    }


def test_a_key_is_found_by_the_end_of_its_path_and_with_or_without_a_number() -> None:
    assert [path for path, _, _ in keys.explain("learning_rate")] == ["update.learning_rate"]
    for written in ("rewards.0.weight", "rewards.N.weight", "rewards.weight", "stages.0.rewards.1.weight"):
        [(_, _, key)] = keys.explain(written)
        assert (key.name, key.default, key.type) == ("weight", "1.0", "number")
    assert {path for path, _, _ in keys.explain("max_tokens")} >= {"rollout.max_tokens", "reasoner.max_tokens"}
    [(_, _, rate)] = keys.explain("stages.2.update.learning_rate")
    assert rate.allowed == "≥ 0"


def test_the_reference_says_choices_and_bounds_as_the_recipe_refuses_others() -> None:
    [(_, _, kl)] = keys.explain("update.kl")
    assert kl.allowed == "k1, k2, k3"
    [(_, _, share)] = keys.explain("runtime.captioner.gpu_memory")
    assert (share.allowed, share.default) == ("> 0, ≤ 1", "0.85")


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("update.lerning_rate", "did you mean update.learning_rate"),
        ("gpu_memroy", "gpu_memory"),
        ("¿", "racro recipe show embedded"),
    ],
)
def test_a_key_that_is_none_is_refused_with_what_comes_near(given: str, hint: str) -> None:
    with pytest.raises(UnknownKey, match=f"no recipe has such a key; .*{hint}"):
        keys.explain(given)


def test_shipped_recipes_say_what_they_are_and_how_much_they_sample() -> None:
    found = {one.name: one for one in shipped()}
    assert {*found} == {*loading.names()}
    assert all(one.text.endswith(".") or "?" in one.text for one in found.values())
    assert found["racro-3b"].models == ("Qwen2.5-VL-3B-Instruct", "DeepSeek-R1-Distill-Qwen-7B")
    default = Recipe()
    assert found["racro-3b"].captions == default.iterations * default.rollout.problems * default.rollout.group_size
