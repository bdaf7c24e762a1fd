"""Which run a name belongs to: the first one that takes it. Another one is refused, so none overwrites another."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from racro.errors import BadInput
from racro.storage import layout
from racro.storage.artifacts import create_file, read_file, to_json

Kind = Literal["training", "evaluation", "sweep", "profile"]


class NameTaken(BadInput):
    """A name of a run that another run has."""


class Owner(BaseModel):
    """Content of a run's `run.json`: what the name stands for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    recipe: str
    """Digest of the recipe, the machine left out."""
    asked: str = ""
    """Digest of what else was asked, if anything: of an evaluation policy, benchmarks and modes, as they were given."""


def take(root: str, name: str, owner: Owner) -> None:
    """Give the name to this run, which may have it already. Raises BadName, NameTaken."""
    if require(root, name, owner) is None and not create_file(layout.owner(root, name), to_json(owner).encode()):
        require(root, name, owner)  # another run took it in between


def require(root: str, name: str, owner: Owner) -> Owner | None:
    """Who has the name, if that is this run; None while it is free. Raises BadName, NameTaken."""
    held = holder(root, name)
    if held is None:
        return None
    article = {"evaluation": "an"}.get(held.kind, "a")
    if held.kind != owner.kind:
        what = f"{article} {held.kind}"
    elif held.recipe != owner.recipe:
        what = f"{article} {held.kind} of another recipe ({held.recipe[:8]}, not {owner.recipe[:8]})"
    elif held.asked and owner.asked and held.asked != owner.asked:
        what = f"{article} {held.kind} of something else"
    else:
        return held
    raise NameTaken(f"--run {name}: holds {what}; choose another name, or delete {layout.run(root, name)}")


def holder(root: str, name: str) -> Owner | None:
    """Whose name it is; None while it is free. Raises BadName, NameTaken for what cannot be read."""
    try:
        return Owner.model_validate_json(read_file(layout.owner(root, name)))
    except FileNotFoundError:
        return _finished(root, name)
    except ValidationError as error:
        raise NameTaken(
            f"--run {name}: {layout.owner(root, name)} cannot be read; choose another name, or delete the folder"
        ) from error


def _finished(root: str, name: str) -> Owner | None:
    """By its summary: of a run that finished without `run.json`."""
    try:
        summary = json.loads(read_file(layout.summary(root, name)))
        kinds: dict[str, Kind] = {
            "iterations": "training",
            "entries": "evaluation",
            "ranking": "sweep",
            "bands": "profile",
        }
        kind = next(kind for key, kind in kinds.items() if key in summary)
        return Owner(kind=kind, recipe=summary["recipe_digest"])
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, StopIteration) as error:
        raise NameTaken(
            f"--run {name}: {layout.summary(root, name)} is no summary of a run; choose another name"
        ) from error
