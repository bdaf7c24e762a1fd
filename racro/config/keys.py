"""All keys of a recipe, each with type, default, bounds and meaning, as the config classes say them.

For people: `racro recipe explain`, docs/keys.md. Recipes are read by `racro.config.loading`.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from racro.config.base import Config, models_in, tag
from racro.config.differences import changed
from racro.config.recipe import BESIDE, Recipe
from racro.config.stages import Changes
from racro.errors import BadInput

NUMBER, NAME = "N", "NAME"
"""In paths: the number of an entry of a list, and a name of your choice."""
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
TYPES = {"string": "text", "boolean": "true or false", "null": "null"}
"""JSON schema's names of types -> ours; the others are the same."""


class UnknownKey(BadInput):
    """Something that is no key of a recipe."""


class Key(NamedTuple):
    """A key of a section."""

    name: str
    kinds: tuple[str, ...]
    """Values of the section's `type` with which it is there; empty: always."""
    type: str
    allowed: str
    """Bounds or choices; empty: any value of the type."""
    default: str | None
    """In YAML; None: the key is required."""
    text: str


class Section(NamedTuple):
    """Keys that stand together, at one place of a recipe or at several."""

    paths: tuple[str, ...]
    """Where; "" is the top of the recipe."""
    within: str
    """The value of `type` of the section above with which it is there; empty: always."""
    text: str
    kinds: dict[str, str]
    """Values of `type`, with what they mean; empty if the section has one kind only."""
    keys: tuple[Key, ...]

    @property
    def changes_the_result(self) -> bool:
        """Is it part of the identity of a training? Otherwise it only says where, how fast, or when to warn."""
        return self.paths[0].partition(".")[0] not in BESIDE


@functools.cache
def sections() -> tuple[Section, ...]:
    """All sections, the recipe itself first, then as they stand in it."""
    queue: list[tuple[type[BaseModel], ...]] = [(Recipe,)]
    places: dict[tuple[type[BaseModel], ...], list[str]] = {queue[0]: [""]}
    within = {queue[0]: ""}
    for models in queue:  # grows while it is walked through
        for model in models:
            for name, field in model.model_fields.items():
                below = tuple(models_in(field.annotation))
                if not below:
                    continue
                if issubclass(below[0], Changes):
                    below = (below[0].section,)
                if below not in places:
                    places[below] = []
                    alone = (
                        sum(below == tuple(models_in(f.annotation)) for m in models for f in m.model_fields.values())
                        == 1
                    )
                    within[below] = str(tag(model)) if alone and len(models) > 1 else ""
                    queue.append(below)
                path = _entry(name, field.annotation)
                new = [f"{place}.{path}".removeprefix(".") for place in places[models]]
                places[below] += [one for one in new if one not in places[below]]
    found = [_section(models, tuple(paths), within[models]) for models, paths in places.items()]
    order = {name: place for place, name in enumerate(Recipe.model_fields)}
    return (found[0], *sorted(found[1:], key=lambda one: order[one.paths[0].partition(".")[0]]))


def explain(given: str) -> list[tuple[str, Section, Key]]:
    """The keys that are meant, with their full paths. Raises UnknownKey with the nearest names.

    given: a full path (`update.learning_rate`, `rewards.0.weight`), or the end of one (`learning_rate`).
    """
    known = [(f"{path}.{key.name}".removeprefix("."), section, key) for path, section, key in _all()]
    wanted = given.strip().strip(".")
    exact = [one for one in known if _pattern(one[0] + _inside(one[2])).fullmatch(wanted)]
    found = exact or [one for one in known if one[0].endswith(f".{wanted}")]
    if found:
        return _once(found)
    names = {path for path, section, _ in known if path.startswith(section.paths[0])} | {
        key.name for _, _, key in known
    }
    close = difflib.get_close_matches(wanted, sorted(names), n=3)
    inside = sorted(name for name in names if len(wanted) > 2 and wanted in name)[:3]
    there = ", ".join(close or inside)
    hint = f"did you mean {there}?" if there else "`racro recipe show embedded` prints all of them"
    raise UnknownKey(f"{given[:100]}: no recipe has such a key; {hint}")


def section_at(path: str) -> Section | None:
    """The section that stands there; None where none does."""
    return next((one for one in sections() if any(_pattern(place).fullmatch(path) for place in one.paths)), None)


def _all() -> Iterator[tuple[str, Section, Key]]:
    for section in sections():
        for path in section.paths:
            for key in section.keys:
                yield path, section, key


def _once(found: Sequence[tuple[str, Section, Key]]) -> list[tuple[str, Section, Key]]:
    """Without a second path of the same key: `captioner.engine.type` stands for `reasoner.engine.type` too."""
    kept: dict[tuple[str, ...], tuple[str, Section, Key]] = {}
    for path, section, key in found:
        kept.setdefault((*section.paths, key.name, *key.kinds), (path, section, key))
    return list(kept.values())


def _inside(key: Key) -> str:
    """What may follow the key in a path, because its value has entries: `rewards.0.settings.size`."""
    return f".{NAME}" if key.type.startswith("mapping") else f".{NUMBER}" if key.type.startswith("list") else ""


@functools.cache
def _pattern(path: str) -> re.Pattern[str]:
    """Paths that people give: with a number or name, with N or NAME, or without."""
    parts = [
        rf"(\.(?:\d+|{NUMBER}))?" if part == NUMBER else r"(\.[\w-]+)?" if part == NAME else rf"\.{re.escape(part)}"
        for part in path.split(".")
    ]
    return re.compile("".join(parts).removeprefix(r"\."))


# --- sections ---------------------------------------------------------------------------------------------------------


def _section(models: tuple[type[BaseModel], ...], paths: tuple[str, ...], within: str) -> Section:
    """Keys of a section; those that all kinds have in the same way are there once."""
    kinds = {str(tag(model)): _line(model.__doc__) for model in models} if len(models) > 1 else {}
    rows: dict[tuple[Any, ...], list[str]] = {}
    for model in models:
        schemas = model.model_json_schema()["properties"]
        for name, field in model.model_fields.items():
            if not kinds or name != "type":
                rows.setdefault((name, *_leaf(schemas[name], field)), []).append(str(tag(model)))
    keys = [Key(said[0], () if len(by) == len(models) else tuple(by), *said[1:]) for said, by in rows.items()]
    if kinds:
        text = "Kind. Which other keys there are depends on it."
        keys.insert(0, Key("type", (), "text", ", ".join(kinds), _default_kind(models), text))
    return Section(paths, within, "" if kinds else _line(models[0].__doc__), kinds, tuple(keys))


def _default_kind(models: tuple[type[BaseModel], ...]) -> str | None:
    """The kind that a recipe has without saying so; None: it must say one."""
    holders: list[type[BaseModel]] = [Recipe]
    holders += [model for field in Recipe.model_fields.values() for model in models_in(field.annotation)]
    fields = (field for holder in holders for field in holder.model_fields.values())
    defaults = (field.default for field in fields if tuple(models_in(field.annotation)) == models)
    return next((tag(type(default)) for default in defaults if isinstance(default, Config)), None)


def _leaf(schema: dict[str, Any], field: FieldInfo) -> tuple[str, str, str | None, str]:
    """Type, bounds or choices, default and text of a key."""
    below = models_in(field.annotation)
    entry = _entry("", field.annotation)
    if below:
        entries = "text or sections" if "tuple[str |" in str(field.annotation) else "sections"
        kind = {f".{NUMBER}": f"list of {entries}", f".{NAME}": "mapping of names to sections"}.get(entry, "section")
        return kind, "", _default(field, section=True), _line(field.description)
    options = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    types = list(dict.fromkeys(_type(option) for option in options))
    allowed = list(dict.fromkeys(filter(None, (_allowed(option) for option in options))))
    return " or ".join(types), "; ".join(allowed), _default(field), _line(field.description)


def _type(schema: dict[str, Any]) -> str:
    match schema.get("type"):
        case "array":
            inner: dict[str, Any] = schema.get("items") or next(iter(schema.get("prefixItems", [])), {})
            return f"list of {_type(inner)}"
        case "object":
            return f"mapping of names to {_type(schema.get('additionalProperties', {}))}"
        case None:
            several = dict.fromkeys(_type(one) for one in schema.get("anyOf", []))
            return " or ".join(several) or "any value"
        case name:
            return TYPES.get(name, name)


def _allowed(schema: dict[str, Any]) -> str:
    if schema.get("type") == "array":
        return _allowed(schema.get("items") or {})
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if "pattern" in schema:
        return f"matches {schema['pattern']}"
    return ", ".join(f"{sign} {_number(schema[name])}" for name, sign in BOUNDS.items() if name in schema)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _default(field: FieldInfo, section: bool = False) -> str | None:
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return f"type: {tag(type(value))}" if tag(type(value)) else "as below"
    if section and value:
        return plain([changed(one) for one in value])
    return plain(list(value) if isinstance(value, tuple) else value)


def plain(value: Any) -> str:
    """A value in YAML, on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()


def _entry(name: str, annotation: Any) -> str:
    """The path of what a field holds: of an entry, if it is a list or a mapping."""
    text = str(annotation)
    if not models_in(annotation):
        return name
    kind = f".{NAME}" if "dict[" in text else f".{NUMBER}" if "tuple[" in text else ""
    return name + kind


def _line(text: str | None) -> str:
    return " ".join((text or "").split())
