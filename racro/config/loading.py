"""Recipes by name or by file, with `--set` overrides -> Recipe; errors name the key and the remedy."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from racro.config import Recipe
from racro.errors import BadInput

RECIPES = Path(__file__).parents[1] / "recipes"
"""Recipes that are part of the package; each is known by its file's name without `.yaml`."""


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


def load(recipe: str, overrides: Sequence[str] = ()) -> Recipe:
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
    for override in sorted(overrides, key=lambda override: ".type=" not in override):
        _apply(content, override)
    return parse(content, str(path))


def override(recipe: Recipe, overrides: Sequence[str], option: str) -> Recipe:
    """Another recipe with `path=value` overrides, which were given by the command line's `option`. Raises BadRecipe."""
    content = recipe.model_dump(mode="json")
    for change in sorted(overrides, key=lambda change: ".type=" not in change):
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


def _apply(content: dict[str, Any], override: str, option: str = "--set") -> None:
    path, equals, value = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise BadRecipe(f"{option} {override}: write it as path=value, for example {option} update.learning_rate=1e-6")
    place = content
    for key in keys[:-1]:
        below = place.setdefault(key, {})
        if not isinstance(below, dict):
            raise BadRecipe(f"{option} {override}: {key} is a value, it has no keys below it")
        place = below
    parsed = _yaml(value, f"{option} {override}")
    if keys[-1] == "type" and place.get("type") != parsed:
        place.clear()
    place[keys[-1]] = parsed


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
            known = sorted(str(_tag(model)) for model in _models(beside[0].model_fields[location[-1]].annotation))
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
        chosen = [model for model in models if _tag(model) == part]
        if chosen and i < len(location) - 1:
            models = chosen
            continue
        path.append(part)
        if i < len(location) - 1:
            fields = [model.model_fields[part] for model in models if part in model.model_fields]
            models = [below for field in fields for below in _models(field.annotation)] or models
    return path, models


def _tag(model: type[BaseModel]) -> str | None:
    """What `type` says of a union's member."""
    field = model.model_fields.get("type")
    return None if field is None else str(field.default)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in getattr(annotation, "__args__", ()) for model in _models(inner)]
