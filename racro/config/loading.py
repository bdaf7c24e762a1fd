"""Recipes by name or by file, with `--set` overrides -> Recipe; errors name the key and the remedy."""

from __future__ import annotations

import copy
import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from racro.config import Recipe
from racro.config.base import models_in, tag
from racro.errors import BadInput

RECIPES = Path(__file__).parents[1] / "recipes"
"""Recipes that are part of the package; each is known by its file's name without `.yaml`."""
CHANGES = "changes:"
"""What error messages call changes that a program makes, as they call those of the command line `--set`."""


class BadRecipe(BadInput):
    """A recipe that cannot be read or does not hold together."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))  # one line, whatever the user's keys and the parser's words hold


def names() -> list[str]:
    """Recipes that can be given by name."""
    return sorted(file.stem for file in RECIPES.glob("*.yaml"))


def find(recipe: str) -> Path:
    """The file of a recipe: a path if it has a slash or ends in .yaml, otherwise a shipped recipe's name.

    Raises BadRecipe for a name that is not known. Whether a path exists is found out by whoever reads it.
    """
    if os.sep in recipe or recipe.endswith((".yaml", ".yml")):
        return Path(recipe)
    if recipe in (known := names()):
        return RECIPES / f"{recipe}.yaml"
    close = difflib.get_close_matches(recipe, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise BadRecipe(
        f"{recipe[:100]}: no recipe has this name; {hint}known names: {', '.join(known)}; a file needs a slash or .yaml"
    )


def load(recipe: str, overrides: Sequence[str] = (), option: str = "--set") -> Recipe:
    """Read a recipe, by name or path, and apply `path=value` overrides, values in YAML. Raises BadRecipe.

    Another `type` replaces a section with all its keys, because they mean nothing to the new type.
    """
    path = find(recipe)
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadRecipe(f"{path}: no such recipe file; known names: {', '.join(names())}") from error
    except (OSError, ValueError) as error:  # a folder, a binary file, an impossible name
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        raise BadRecipe(f"{path}: not a readable text file ({reason}); give the path of a YAML file") from error
    content = _yaml(text, str(path))
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise BadRecipe(f"{path}: a recipe is a mapping of keys to values, not a {type(content).__name__}")
    for change in _in_order(overrides):
        _apply(content, change, option)
    return parse(content, str(path))


def load_recipe(recipe: Recipe | str | os.PathLike[str], changes: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe, checked, for programs of your own.

    Args:
        recipe: The name of a shipped recipe, the path of a YAML file, or a recipe that is changed.
        changes: Keys to set, by their paths: `{"iterations": 2, "rewards": [...], "problems.count": 64}`. A value may
            be a section (`racro.config.Captioner`), and another `type` replaces a section with all its keys.

    Raises:
        BadRecipe: A line that names the key and the remedy.
    """
    given = [f"{path}={_yaml_of(value)}" for path, value in (changes or {}).items()]
    if isinstance(recipe, Recipe):
        return override(recipe, given, CHANGES) if given else recipe
    return load(os.fspath(recipe), given, CHANGES)


def _yaml_of(value: Any) -> str:
    return yaml.safe_dump(_plain(value), default_flow_style=True, width=10**6).removesuffix("...\n")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def read(recipe: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe from one field of a form: its name, its path, or its text in YAML. Raises BadRecipe."""
    text = recipe.strip()
    if "\n" not in text and ": " not in text and not text.startswith("{"):
        return load(text, overrides, "overrides")
    content = _yaml(text, "recipe")
    if not isinstance(content, dict):
        raise BadRecipe(f"recipe: a recipe is a mapping of keys to values, not a {type(content).__name__}")
    for change in _in_order(overrides):
        _apply(content, change, "overrides")
    return parse(content, "recipe")


def _in_order(overrides: Sequence[str]) -> list[str]:
    """Types first, because another type replaces a section."""
    return sorted(overrides, key=lambda override: ".type=" not in override)


def override(recipe: Recipe, overrides: Sequence[str], option: str) -> Recipe:
    """Another recipe with `path=value` overrides, which were given by the command line's `option`. Raises BadRecipe."""
    content = recipe.model_dump(mode="json")
    for change in _in_order(overrides):
        _apply(content, change, option)
    return parse(content, option)


def parse(content: dict[str, Any], source: str) -> Recipe:
    """Validate. Raises BadRecipe with one line that names the first offending key."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        first = _explain(problems[0])
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise BadRecipe(f"{source}: {first}{more}") from error


def dump(recipe: Recipe) -> str:
    """The recipe as YAML, defaults filled in."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)  # with allow_unicode, U+0085 would be lost


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise BadRecipe(f"{where}:{line} not valid YAML: {getattr(error, 'problem', None) or error}") from error
    except RecursionError as error:
        raise BadRecipe(f"{where}: not valid YAML: nested too deeply") from error


class _Loader(yaml.SafeLoader):
    """Refuses a key that occurs twice; YAML would silently take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value} stands twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _apply(content: dict[str, Any], override: str, option: str) -> None:
    path, equals, value = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise BadRecipe(f"{option} {override}: write it as path=value, for example {option} update.learning_rate=1e-6")
    place: Any = content
    for depth, key in enumerate(keys[:-1], 1):
        if isinstance(place, list):
            place = place[_number(place, keys[: depth - 1], key, f"{option} {override}")]
        else:
            if place.get(key) is None:
                place[key] = _default(keys[:depth], content)
            place = place[key]
        if not isinstance(place, dict | list):
            raise BadRecipe(f"{option} {override}: {key} is a value, it has no keys below it")
    last: Any = keys[-1]
    if isinstance(place, list):
        last = _number(place, keys[:-1], last, f"{option} {override}")
    parsed = _yaml(value, f"{option} {override}")
    if last == "type" and place.get("type") != parsed:
        place.clear()
    place[last] = parsed


def _default(path: Sequence[str], content: dict[str, Any]) -> dict[str, Any] | list[Any]:
    """What stands at a path of a recipe that says nothing about it: a list if it is one, otherwise an empty section.

    A stage's list is that of the recipe.
    """
    if path[0] == "stages" and len(path) == 3 and isinstance(listed := content.get(path[2]), list):
        return copy.deepcopy(listed)
    found: Any = Recipe().model_dump(mode="json")
    for key in path[2:] if path[0] == "stages" and len(path) > 2 else path:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, list) else {}


def _number(entries: list[Any], path: Sequence[str], key: str, given: str) -> int:
    """The place of an entry of a list, as an override writes it."""
    if key.isdecimal() and int(key) < len(entries):
        return int(key)
    name = ".".join(path)
    known = f"0 to {len(entries) - 1}" if entries else "it has none"
    raise BadRecipe(f"{given}: {name} is a list; give the number of an entry ({known}), or all of it as {name}=[...]")


def _explain(problem: Any) -> str:
    location, beside = _find([str(part) for part in problem["loc"]])
    key = ".".join(location) or "recipe"
    match problem["type"]:
        case "extra_forbidden":
            known = sorted({name for model in beside for name in model.model_fields})
            close = difflib.get_close_matches(location[-1], known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known keys here: {', '.join(known)}"
            return f"{key}: unknown key; {hint}"
        case "missing":
            return f"{key}: is required; put it into the recipe, or --set {key}=VALUE"
        case "union_tag_not_found" | "union_tag_invalid":
            entry = location[-1].isdecimal()  # of a list, whose members are known already
            members = beside if entry else models_in(beside[0].model_fields[location[-1]].annotation)
            known = sorted(str(tag(model)) for model in members)
            return f"{key}.type: must be one of {', '.join(known)}"
    message = problem["msg"].removeprefix("Value error, ")
    given = f", not {problem['input']!r}" if isinstance(problem.get("input"), str | int | float | bool) else ""
    return f"{key}: {message[:1].lower()}{message[1:]}{given}" if location else message


def _find(location: Sequence[str]) -> tuple[list[str], list[type[BaseModel]]]:
    """The path of a key as it stands in a recipe, and the models that could hold it.

    In pydantic's locations the tag of a union's member stands between the union's key and the member's.
    """
    path: list[str] = []
    models: list[type[BaseModel]] = [Recipe]
    for i, part in enumerate(location):
        chosen = [model for model in models if tag(model) == part]
        if chosen and (i < len(location) - 1 or not any(part in model.model_fields for model in models)):
            models = chosen
            continue
        path.append(part)
        if i < len(location) - 1:
            fields = [model.model_fields[part] for model in models if part in model.model_fields]
            models = [below for field in fields for below in models_in(field.annotation)] or models
    return path, models
