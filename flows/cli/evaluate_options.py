"""Options of `racro evaluate` and `racro compare` -> what the flow and the comparison take. Loads no Prefect.

Called by `flows.cli.main`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

import yaml

from racro.config import Reasoner, Recipe
from racro.config.loading import BadRecipe, parse
from racro.schema import Mode, Result


def benchmarks(options: Sequence[str]) -> dict[str, str | None]:
    """`NAME[=SOURCE]` -> name and source. Raises BadRecipe."""
    found: dict[str, str | None] = {}
    for option in options:
        name, _, source = option.partition("=")
        if name in found:
            raise BadRecipe(f"--benchmark {option}: {name} is named twice")
        found[name] = source or None
    return found


def modes(options: Sequence[str]) -> tuple[Mode, ...]:
    """Names of modes. Raises BadRecipe."""
    known = get_args(Mode)
    if unknown := [option for option in options if option not in known]:
        raise BadRecipe(f"--mode {unknown[0]}: not known; one of {', '.join(known)}")
    return tuple(mode for mode in known if mode in options)


def reasoners(options: Sequence[str], recipe: Recipe) -> tuple[Reasoner, ...]:
    """A model's name, for the recipe's reasoner with that model; or a YAML file with a section `reasoner`.

    Raises BadRecipe.
    """
    return tuple(_reasoner(option, recipe) for option in options)


def _reasoner(option: str, recipe: Recipe) -> Reasoner:
    if not option.endswith((".yaml", ".yml")):
        return recipe.reasoner.model_copy(update={"model": option, "revision": None})
    try:
        content = yaml.safe_load(Path(option).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BadRecipe(f"--reasoner {option}: not a readable YAML file ({type(error).__name__})") from error
    if not isinstance(content, dict) or "reasoner" not in content:
        raise BadRecipe(f"--reasoner {option}: holds no section `reasoner`, which a recipe has")
    return parse({"reasoner": content["reasoner"]}, option).reasoner


def answered_in(rows: Iterable[Result], mode: str | None) -> Iterable[Result]:
    """The results of one mode, or all of them."""
    return rows if mode is None else (row for row in rows if row.mode == mode)
