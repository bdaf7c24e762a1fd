"""The recipes that ship with the package, each with one line that says what it is."""

from __future__ import annotations

import re
from typing import NamedTuple

from racro.config import loading
from racro.config.recipe import Recipe


class Shipped(NamedTuple):
    """A recipe that is known by its name."""

    name: str
    text: str
    """The first sentence of the comment that its file opens with."""
    recipe: Recipe

    @property
    def models(self) -> tuple[str, ...]:
        """Captioner, reasoner and judges, without the names of their publishers."""
        return tuple(dict.fromkeys(section.model.rpartition("/")[2] for section in self.recipe.roles.values()))

    @property
    def captions(self) -> int:
        """Captions (or own answers) that its training samples: iterations x problems x group size."""
        phases = self.recipe.phases
        return sum(one.iterations * one.rollout.problems * one.rollout.group_size for one in phases)


def shipped() -> list[Shipped]:
    """All of them, by name."""
    return [Shipped(name, opening(name), loading.load(name)) for name in loading.names()]


def opening(name: str) -> str:
    """The first sentence of a shipped recipe's opening comment. Raises BadRecipe for a name that is not known."""
    lines = loading.find(name).read_text(encoding="utf-8").splitlines()
    end = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    comment = " ".join(line.removeprefix("#").strip() for line in lines[:end])
    return re.split(r"(?<=\.)\s", comment, maxsplit=1)[0]
