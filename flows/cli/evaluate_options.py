"""Options of `racro evaluate` and `racro compare` -> what the flow and the comparison take. Loads no Prefect.

Called by `flows.cli.main`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from racro.config import Judge, ModeSettings, Reasoner, Recipe, Server
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


USED: dict[str, tuple[Mode, ...]] = {
    "captions": ("vote", "best"),
    "caption_temperature": ("vote", "best"),
    "kind": ("best",),
    "clues": ("clues",),
    "shots": ("shots",),
}
"""The modes that use each of the settings of modes."""


def mode_settings(
    modes: Sequence[Mode], kind: str | None, judges: Mapping[str, Judge] | None = None, **numbers: float | None
) -> ModeSettings:
    """The settings of the modes that are given. `kind`: a reward, by its type or as YAML. `judges`: those it may ask.

    Raises BadRecipe, and CannotChoose for a reward that cannot choose among captions.
    """
    given: dict[str, Any] = {name: value for name, value in (*numbers.items(), ("kind", kind)) if value is not None}
    for name in given:
        if {*USED[name]}.isdisjoint(modes):
            wanted = " or ".join(f"--mode {mode}" for mode in USED[name])
            raise BadRecipe(f"--{name.replace('_', '-')}: no mode uses it; give {wanted} too, or leave it out")
    try:
        content = yaml.safe_load(kind) if kind is not None else None
    except yaml.YAMLError as error:
        raise BadRecipe(f"--kind {kind}: not YAML; name a kind, or write {{type: length, budget: 200}}") from error
    if content is not None:
        given["kind"] = content if isinstance(content, dict) else {"type": str(content)}
    try:
        settings = ModeSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = first["loc"][0] if first["loc"] else ""
        option = str(place).replace("_", "-")
        raise BadRecipe(f"--{option}: {' '.join(str(first['msg']).split())}; see docs/evaluation.md") from error
    if "best" in modes:
        from racro.rewards import choosing

        choosing.require(settings.kind, judges)
    return settings


def reasoners(options: Sequence[str], recipe: Recipe) -> tuple[Reasoner, ...]:
    """A model's name, for the recipe's reasoner with that model; or a YAML file with a section `reasoner`.

    A model for which `runtime.reasoners` names endpoints is asked there. Raises BadRecipe.
    """
    return tuple(_reasoner(option, recipe) for option in options)


def _reasoner(option: str, recipe: Recipe) -> Reasoner:
    if not option.endswith((".yaml", ".yml")):
        found = recipe.reasoner.model_copy(update={"model": option, "revision": None})
        role = recipe.runtime.role_of(found)
        away = role != "reasoner" and recipe.runtime.place(role).urls
        return found.model_copy(update={"engine": Server()}) if away else found
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
