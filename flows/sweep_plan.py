"""Points of a sweep -> the recipes and names of its children. Loads no Prefect: the command line asks before it starts.

Called by `flows.sweep` and `flows.cli.main`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from racro.config import Recipe, loading
from racro.identity import computed, digest
from racro.storage import layout
from racro.sweeps.axes import Axis, BadAxis, Grid, Optuna, Point, Random, Sweep, extremes, parse_axes, propose

OPTION = "--axis"
LONGEST = 100
"""Bytes of a child's name; a longer one is the sweep's with a digest."""
CHILD = 30
"""Bytes that such a digest and the seed add to the sweep's name."""


def planned(
    axes: Sequence[str], drawn: int | None, proposed: int | None, seeds: int, parallel: int, stop_hopeless: bool
) -> Sweep:
    """The sweep of a command line: `--axis`, `--random`, `--optuna` and so on. Raises BadAxis."""
    if drawn and proposed:
        raise BadAxis("--random and --optuna: choose one of them")
    search = Random(points=drawn) if drawn else Optuna(points=proposed) if proposed else Grid()
    if not axes:
        raise BadAxis("--axis: is required, for example --axis update.learning_rate=1e-4,5e-4")
    parse_axes(axes, search)
    return Sweep(axes=tuple(axes), search=search, seeds=seeds, parallel=parallel, stop_hopeless=stop_hopeless)


def check(recipe: Recipe, plan: Sweep) -> tuple[Axis, ...]:
    """The axes. Raises BadAxis or BadRecipe where one cannot be swept, or the recipe refuses a value."""
    axes = parse_axes(plan.axes, plan.search)
    for point in extremes(axes):
        loading.override(recipe, point, OPTION)
    return axes


def expected(axes: Sequence[Axis], plan: Sweep, recipe: Recipe) -> list[Point]:
    """The points that a sweep will try; of those that depend on accuracies, others as many in their place."""
    proposals = propose(axes, plan.search, recipe.seed)
    batch = next(proposals)
    found = [*batch]
    with contextlib.suppress(StopIteration):
        while True:
            batch = proposals.send([None] * len(batch))
            found += batch
    return found


def require_room(name: str) -> None:
    """Raises BadName for a sweep's name that leaves no room for those of its children."""
    layout.named("", name)
    layout.run("", name + "-" * CHILD)


def sweep_name(recipe: Recipe, plan: Sweep) -> str:
    """Name of a sweep that was given none: the same sweep, the same name."""
    return f"sweep-{digest([list(computed(recipe).values()), plan.axes, plan.search, plan.seeds])[:8]}"


def distinct(recipe: Recipe, axes: Sequence[Axis], points: Iterable[Point]) -> list[tuple[dict[str, Any], Recipe]]:
    """Points as the recipe understands them, each once: 1e-3 and 0.001 are one."""
    found: dict[str, tuple[dict[str, Any], Recipe]] = {}
    for point in points:
        changed = loading.override(recipe, point, OPTION)
        values = {axis.path: _at(changed, axis.path) for axis in axes}
        found.setdefault(digest(values), (values, changed))
    return list(found.values())


def _at(recipe: Recipe, path: str) -> Any:
    value: Any = recipe.model_dump(mode="json")
    for key in path.split("."):
        value = value[int(key) if isinstance(value, list) else key]
    return value


def child_name(sweep: str, values: dict[str, Any], seed: int) -> str:
    """Name of a child's run, which says what is special about it."""
    last = [path.rpartition(".")[2] for path in values]
    keys = last if len(set(last)) == len(last) else list(values)
    parts = [f"{key}_{_slug(value)}" for key, value in zip(keys, values.values(), strict=True)]
    name = "-".join([sweep, *parts, f"seed_{seed}"])
    return name if len(name.encode()) <= LONGEST else f"{sweep}-{digest(values)[:12]}-seed_{seed}"


def _slug(value: Any) -> str:
    """A value as a part of a folder's name; what a folder cannot show is made unique by a digest."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    slug = re.sub(r"[^\w.+-]", "_", text)[:24]
    exact = slug == text and (not isinstance(value, float) or float(text) == value)
    return slug if exact else f"{slug}_{digest(value)[:6]}"
