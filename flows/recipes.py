"""Recipe files and `--set` overrides -> Recipe, with errors that name the key and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from racro.config import Recipe
from racro.errors import BadInput


class BadRecipe(BadInput):
    """A recipe that cannot be read or does not hold together."""


def load(path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `path=value` overrides, values in YAML. Raises BadRecipe."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise BadRecipe(f"{path}: no such recipe file; shipped ones are in infra/recipes") from error
    except (UnicodeDecodeError, PermissionError) as error:
        raise BadRecipe(f"{path}: not a readable text file ({type(error).__name__})") from error
    content = _yaml(text, path)
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise BadRecipe(f"{path}: a recipe is a mapping of keys to values, not a {type(content).__name__}")
    for override in overrides:
        _apply(content, override)
    return parse(content, path)


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
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise BadRecipe(f"{where}:{line} not valid YAML: {getattr(error, 'problem', error)}") from error


def _apply(content: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise BadRecipe(f"--set {override}: write it as path=value, for example --set update.learning_rate=1e-6")
    place = content
    for key in keys[:-1]:
        below = place.setdefault(key, {})
        if not isinstance(below, dict):
            raise BadRecipe(f"--set {override}: {key} is a value, it has no keys below it")
        place = below
    place[keys[-1]] = _yaml(value, f"--set {override}")


def _explain(problem: Any) -> str:
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location) or "recipe"
    if problem["type"] == "extra_forbidden":
        known = _keys_beside(location)
        close = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known keys here: {', '.join(known)}"
        return f"{key}: unknown key; {hint}"
    message = problem["msg"].removeprefix("Value error, ")
    given = f", not {problem['input']!r}" if isinstance(problem.get("input"), str | int | float | bool) else ""
    return f"{key}: {message[:1].lower()}{message[1:]}{given}" if location else message


def _keys_beside(location: Sequence[str]) -> list[str]:
    """The keys that the model at `location` knows. Discriminator tags of unions stand in the location too."""
    candidates: list[Any] = [Recipe]
    for part in location[:-1]:
        below: list[Any] = []
        for model in candidates:
            field = model.model_fields.get(part)
            if field is not None:
                below += _models(field.annotation)
            elif part in str(model.model_fields.get("type", "")):
                below.append(model)
        candidates = below or candidates
    return sorted({name for model in candidates for name in model.model_fields})


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in getattr(annotation, "__args__", ()) for model in _models(inner)]
