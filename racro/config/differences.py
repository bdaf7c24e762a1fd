"""What a recipe sets differently from the defaults, and where several recipes differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from racro.config.base import tag
from racro.config.recipe import Recipe
from racro.config.stages import Changes


def changed(section: BaseModel) -> dict[str, Any]:
    """The keys of a section that differ from their defaults, as a recipe writes them; `type` is always there."""
    if isinstance(section, Changes):
        return _written(section)
    return _kind(section) | _changes(section)


def unchanged(section: BaseModel) -> dict[str, Any]:
    """The keys of a section that are as their defaults say: together with `changed` all of them."""
    return _rest(section.model_dump(mode="json"), changed(section))


def text(recipe: Recipe) -> str:
    """The recipe as YAML that reads as the same recipe: what differs from the defaults, and the rest as comments."""
    rest = _yaml(unchanged(recipe)).splitlines()
    return "\n".join([_yaml(changed(recipe)), "# The rest is as by default:", *(f"# {line}" for line in rest)]) + "\n"


def written(content: Mapping[str, Any]) -> str:
    """As YAML, the part of a recipe's content that differs from the defaults; all of it if it is of another version."""
    try:
        return _yaml(changed(Recipe.model_validate(content)))
    except ValidationError:
        return _yaml(dict(content))


def flat(content: Mapping[str, Any]) -> dict[str, Any]:
    """All values of a recipe's content by their paths: `rewards.0.weight`."""
    return dict(_flat(content, ""))


def between(recipes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Path -> name of a recipe -> value, for the paths at which their contents differ; None: has no such key."""
    values = {name: flat(content) for name, content in recipes.items()}
    paths = dict.fromkeys(path for found in values.values() for path in found)
    rows = {path: {name: found.get(path) for name, found in values.items()} for path in paths}
    return {path: row for path, row in rows.items() if any(value != next(iter(row.values())) for value in row.values())}


def _kind(section: BaseModel) -> dict[str, Any]:
    kind = tag(type(section))
    return {"type": kind} if kind else {}


def _changes(section: BaseModel) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        if name != "type" and (field.is_required() or value != default):
            found[name] = _written(value, default)
    return found


def _written(value: Any, default: Any = None) -> Any:
    """A value as a recipe writes it. A section is written by what differs from the defaults of its kind.

    A section of the same kind as the default one is written by what differs from that.
    """
    match value:
        case Changes():
            return {name: _written(one) for name, one in value.given().items()}
        case BaseModel() if type(value) is type(default):
            before = dict(default)
            return _kind(value) | {name: _written(one, before[name]) for name, one in value if one != before[name]}
        case BaseModel():
            return changed(value)
        case tuple() | list():
            return [_written(one) for one in value]
        case dict():
            return {key: _written(one) for key, one in value.items()}
        case _:
            return value


def _rest(whole: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in whole.items():
        if name not in part:
            found[name] = value
        elif isinstance(value, dict) and isinstance(part[name], dict) and (below := _rest(value, part[name])):
            found[name] = below
    return found


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    entries = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    if not value or not isinstance(value, Mapping | list):
        yield path, value
    for key, inner in entries:
        yield from _flat(inner, f"{path}.{key}".removeprefix("."))


def _yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100).rstrip()
