"""What a recipe says that the defaults do not comes first, and all of it is there."""

from __future__ import annotations

from racro.config import Recipe, loading
from racro.config.settings import leaves, settings


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
