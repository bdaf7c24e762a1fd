"""What a recipe says that the defaults do not comes first, and all of it is there."""

from __future__ import annotations

from racro.config import Recipe, loading
from racro.config.settings import changes, leaves, settings


def test_the_default_recipe_differs_in_nothing() -> None:
    assert not [setting for setting in settings(Recipe()) if setting.differs]


def test_what_is_changed_is_first_with_its_default() -> None:
    recipe = loading.parse({"update": {"learning_rate": 0.25}, "problems": {"type": "embedded", "count": 7}}, "here")
    first, second, *rest = settings(recipe)
    default = dict(leaves(Recipe().model_dump(mode="json")))["update.learning_rate"]
    assert [(one.key, one.value) for one in (first, second)] == [
        ("problems.count", "7"),
        ("update.learning_rate", "0.25"),
    ]
    assert second.default == default and not any(setting.differs for setting in rest)


def test_every_shipped_recipe_is_told_completely() -> None:
    for name in loading.names():
        recipe = loading.load(name)
        found = {setting.key: setting.value for setting in settings(recipe)}
        assert found == dict(leaves(recipe.model_dump(mode="json"))), name


def test_a_changed_recipe_is_told_by_what_was_changed_in_the_closest_shipped_one() -> None:
    for name in ("embedded", "racro-3b", "embedded-caprl"):
        closest, found = changes(loading.load(name, ["seed=77", "update.learning_rate=3e-5"]))
        shipped = dict(leaves(loading.load(name).model_dump(mode="json")))
        assert closest == name
        assert {(one.key, one.value, one.default) for one in found} == {
            ("seed", "77", shipped["seed"]),
            ("update.learning_rate", "3e-05", shipped["update.learning_rate"]),
        }


def test_a_recipe_of_defaults_is_like_no_shipped_one() -> None:
    assert changes(Recipe()) == ("", [])
