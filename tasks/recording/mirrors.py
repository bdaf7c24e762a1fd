"""Mirrors of a training's metrics, `racro.mirrors`: what fails there is one warning and ends no run."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping

from racro import mirrors
from racro.config import Recipe
from racro.identity import digest
from tasks.running.telemetry import attempt

_open: dict[mirrors.MirrorName, mirrors.Mirror] = {}
"""Of the run in this process, by their names."""


@contextlib.contextmanager
def mirrored(recipe: Recipe, run: str, root: str) -> Iterator[None]:
    """Metrics that are logged within go to the recipe's mirrors too."""
    identity = digest([root, run])[:16]
    for name in recipe.runtime.mirrors:
        made = attempt(f"metrics in {name}", functools.partial(mirrors.opened, name, recipe, run, identity))
        if made is not None:
            _open[name] = made
    failed = True
    try:
        yield
        failed = False
    finally:
        for name, mirror in _open.items():
            attempt(f"metrics in {name}", functools.partial(mirror.close, failed), last=True)
        _open.clear()


def log(step: int, when: float, metrics: Mapping[str, float]) -> None:
    """Metrics to all mirrors that are open."""
    for name, mirror in _open.items():
        attempt(f"metrics in {name}", functools.partial(mirror.log, step, when, metrics))
