"""Which judge a reward asks and where models run is clear before anything starts, or one line says what is missing."""

from __future__ import annotations

from typing import Any

import pytest

from racro import config
from racro.config import loading
from racro.config.loading import BadRecipe
from racro.engines.opening import runs_outside

TEXT = {"model": "t"}
IMAGE = {"model": "v", "sees": "image"}


def recipe(rewards: list[Any], judges: Any = None, **more: Any) -> config.Recipe:
    return loading.parse({"rewards": rewards, "judges": judges or {}, **more}, "recipe")


def named(*judges: str, **keys: str) -> dict[str, str]:
    rewards = [{"type": "correctness", **keys}]
    found = recipe(rewards, {name: IMAGE if name.startswith("v") else TEXT for name in judges})
    return config.judges_of(found.rewards[0], found.judges)


def test_the_only_judge_that_fits_is_asked_unless_one_is_named() -> None:
    assert named("t", "v") == {"splitter": "t", "judge": "v"}
    assert named("v") == {"splitter": "v", "judge": "v"}, "a model that sees images reads text too"
    assert named("t", "v1", "v2", judge="v2", splitter="v1") == {"splitter": "v1", "judge": "v2"}
    assert recipe([{"type": "mcq", "by": "scene"}]).roles.keys() == {"captioner", "reasoner"}


def test_roles_are_the_models_that_are_asked() -> None:
    found = recipe(
        [{"type": "facts", "judge": "a"}], {"a": TEXT, "unused": IMAGE}, runtime={"judges": {"a": {"sequences": 3}}}
    )
    assert list(found.roles) == ["captioner", "reasoner", "judges.a"]
    assert found.runtime.place("judges.a").sequences == 3
    assert found.runtime.place("judges.other") == config.EnginePlacement()
    moved = found.runtime.placed("judges.a", config.EnginePlacement(sequences=5))
    assert (moved.place("judges.a").sequences, moved.place("reasoner")) == (5, found.runtime.reasoner)


def test_a_reasoner_is_placed_by_the_last_part_of_its_name_or_as_all_are() -> None:
    places = {"big.1": {"sequences": 3}, "near": {"cluster": False, "gpus": [1]}, "far": {"urls": ["http://h/v1"]}}
    runtime = {"reasoners": places, "reasoner": {"sequences": 4}, "cluster": {"type": "ray"}}
    found = recipe([{"type": "answer"}], reasoner={"model": "org/big.1"}, runtime=runtime)
    assert list(found.roles) == ["captioner", "reasoners.big.1"]
    roles = {name: found.runtime.role_of(config.Reasoner(model=name)) for name in ("org/big.1", "/x/near/", "other")}
    assert roles == {"org/big.1": "reasoners.big.1", "/x/near/": "reasoners.near", "other": "reasoner"}
    assert [found.runtime.place(role).sequences for role in roles.values()] == [3, 256, 4]
    moved = found.runtime.placed("reasoners.big.1", config.EnginePlacement(sequences=5))
    assert (moved.place("reasoners.big.1").sequences, moved.place("reasoners.near")) == (
        5,
        found.runtime.reasoners["near"],
    )
    assert [found.runtime.clustered(role) for role in roles.values()] == [True, False, True]
    outside = [runs_outside(found.reasoner, found.runtime, role) for role in roles.values()]
    assert outside == [True, False, True], "transformers, on the machine of the run, runs in its process"
    with pytest.raises(BadRecipe, match=r"reasoners\.big\.gpus: on a cluster Ray chooses the GPUs"):
        recipe([{"type": "answer"}], runtime={**runtime, "reasoners": {"big": {"gpus": [1]}}})


def test_endpoints_are_urls_or_urls_with_what_only_they_need() -> None:
    urls = ["http://a/v1", {"url": "http://b/v1", "api_key": "B", "headers": {"X": "$Y"}, "sequences": 2}]
    place = recipe(
        [{"type": "answer"}], runtime={"reasoners": {"m": {"urls": urls, "api_key": "A"}}}
    ).runtime.reasoners["m"]
    assert [(one.url, one.api_key, one.sequences) for one in place.endpoints] == [
        ("http://a/v1", "A", None),
        ("http://b/v1", "B", 2),
    ]
    with pytest.raises(BadRecipe, match=r"runtime\.reasoners\.m\.urls"):
        recipe([{"type": "answer"}], runtime={"reasoners": {"m": {"urls": [{"uri": "http://a/v1"}]}}})


@pytest.mark.parametrize(
    ("rewards", "judges", "line"),
    [
        ([{"type": "facts"}], {}, "facts: judge: no judges see text; add one: judges"),
        ([{"type": "facts"}], {"a": TEXT, "b": TEXT}, "facts: judge: 2 judges see text; name one of a, b"),
        ([{"type": "facts", "judge": "c"}], {"a": TEXT}, "facts: judge: c: no judge has this name; there are: a"),
        ([{"type": "correctness"}], {"a": TEXT}, "correctness: judge: no judges see image; add one"),
        ([{"type": "correctness", "judge": "a"}], {"a": TEXT}, "a must be shown images; set judges.a.sees=image"),
        ([{"type": "answer"}], {"a b": TEXT}, "judges: 'a b' is no name"),
    ],
)
def test_what_is_missing_is_one_line(rewards: list[Any], judges: Any, line: str) -> None:
    with pytest.raises(BadRecipe) as caught:
        recipe(rewards, judges)
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_what_can_have_no_values_is_refused_with_the_remedy() -> None:
    table = {"problems": {"type": "table", "source": "a.parquet"}}
    for reward in ("facts", "mcq"):
        with pytest.raises(BadRecipe, match=f"{reward}: needs problems.columns.{reward}"):
            recipe([{"type": reward}], {"a": TEXT}, **table)
        table["problems"]["columns"] = {reward: "x"}  # type: ignore[assignment]
        recipe([{"type": reward}], {"a": TEXT}, **table)
    with pytest.raises(BadRecipe, match="by: scene is for embedded problems alone"):
        recipe([{"type": "correctness", "by": "scene"}], **table)
    with pytest.raises(BadRecipe, match=r"runtime.judges.b: no judge has this name; there are: a"):
        recipe([{"type": "facts"}], {"a": TEXT}, runtime={"judges": {"b": {}}})
