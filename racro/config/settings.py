"""The keys of a recipe as text, what differs from the defaults first: for reports and records of runs."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from racro.config import loading
from racro.config.recipe import Recipe


class Setting(NamedTuple):
    """One key of a recipe."""

    key: str
    """Its path, with dots."""
    value: str
    default: str
    """Of a recipe that says nothing; empty if it has no such key."""
    differs: bool


def settings(recipe: Recipe) -> list[Setting]:
    """All keys of a recipe in its order, those that differ from the defaults first."""
    said = dict(leaves(recipe.model_dump(mode="json", exclude_defaults=True)))
    defaults = dict(leaves(Recipe().model_dump(mode="json")))
    found = [
        Setting(key, value, defaults.get(key, ""), key in said or defaults.get(key, value) != value)
        for key, value in leaves(recipe.model_dump(mode="json"))
    ]
    return sorted(found, key=lambda setting: not setting.differs)


def changes(recipe: Recipe) -> tuple[str, list[Setting]]:
    """The shipped recipe that differs least, and the keys in which it does, with its values in place of defaults.

    Empty where that says no less than the defaults do.
    """
    own = dict(leaves(recipe.model_dump(mode="json")))

    def differing(name: str) -> list[Setting]:
        theirs = _shipped(name)
        keys = (key for key in own | theirs if own.get(key) != theirs.get(key))
        return [Setting(key, own.get(key, ""), theirs.get(key, ""), True) for key in keys]

    name, found = min(((name, differing(name)) for name in loading.names()), key=lambda both: len(both[1]))
    return (name, found) if len(found) < sum(one.differs for one in settings(recipe)) else ("", [])


@functools.cache
def _shipped(name: str) -> dict[str, str]:
    return dict(leaves(loading.load(name).model_dump(mode="json")))


def leaves(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as pairs of a path with dots and a text."""
    for key, item in value.items():
        if isinstance(item, dict) and item:
            yield from leaves(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(item) if isinstance(item, list | dict) else str(item)
