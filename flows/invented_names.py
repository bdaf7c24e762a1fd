"""Names that Prefect invents for flow runs: "ambitious-owl" of its API, "beta4-orionis" of the form in its UI.

A name that a person typed into "Run Name" is kept (`flows.deployed`); an invented one is replaced by the run's.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, cast

_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi chi "
    "psi omega"
)
_STAR = re.compile(rf"(?:{'|'.join(_GREEK.split())})\d*-[a-z]{{2,}}(?:-[a-z]+)*")
"""The UI's own generator: a letter, perhaps a number, a constellation or a name, perhaps more."""


@lru_cache(1)
def _words() -> tuple[frozenset[str], frozenset[str]]:
    """The adjectives and the animals of Prefect's API."""
    from coolname import data

    config = cast("dict[str, dict[str, Any]]", data.config)
    adjectives, animals = (
        frozenset(word for part in config[kind]["lists"] for word in config[part]["words"])
        for kind in ("adj_any", "subj")
    )
    return adjectives, animals


def invented(name: str) -> bool:
    """Is a name one of Prefect's, and of nobody?"""
    if _STAR.fullmatch(name):
        return True
    first, _, second = name.partition("-")
    adjectives, animals = _words()
    return first in adjectives and second in animals
