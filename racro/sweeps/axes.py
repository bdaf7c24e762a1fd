"""What a sweep varies: axes -> points, by grid, at random or by Optuna.

A point is one value per axis, written as overrides of a recipe. Not here: whether the recipe takes them
(`racro.config.loading`), what came of them (`racro.sweeps.ranking`). The classes at the top are the form in the Prefect
UI.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, PositiveInt

from racro.config import Config
from racro.errors import BadInput

BATCH = 4
"""Points that Optuna proposes at a time. Fixed, so that what is tried does not depend on `parallel`."""
DECADE = 10
"""Ratio of a range's ends from which it is drawn from on a logarithmic scale."""
DIGITS = 3
"""Significant digits of a drawn number: few enough to read and to repeat."""

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
Point = tuple[str, ...]
"""One `path=value` per axis, as `--set` takes them."""


class BadAxis(BadInput):
    """An axis that cannot be swept."""


class Grid(Config):
    """Every combination of the axes' values."""

    type: Literal["grid"] = "grid"


class Random(Config):
    """Points drawn at random, seeded."""

    type: Literal["random"] = "random"
    points: PositiveInt
    """How many."""


class Optuna(Config):
    """Points proposed by Optuna's TPE sampler, seeded, four at a time."""

    type: Literal["optuna"] = "optuna"
    points: PositiveInt
    """How many."""


AxisText = Annotated[str, Field(pattern=r"^[^=\s]+=.+$")]


class Sweep(Config):
    """What to vary, and how."""

    axes: Annotated[tuple[AxisText, ...], Field(min_length=1)]
    """Each a key of the recipe with its values, `update.learning_rate=1e-4,5e-4`, or a range, `1e-5..1e-3`."""
    search: Annotated[Grid | Random | Optuna, Field(discriminator="type")] = Grid()
    """How points are chosen. Ranges need random or optuna."""
    seeds: PositiveInt = 1
    """Trainings per point: with the recipe's seed, the next, and so on."""
    parallel: PositiveInt = 1
    """Children at once, each in a separate process. Changes no result."""
    stop_hopeless: bool = True
    """Stop a child that falls two standard errors below the median of finished siblings at the same iteration."""


# --- axes and points --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """An axis of given values."""

    path: str
    values: tuple[Any, ...]

    @property
    def ends(self) -> tuple[Any, ...]:
        return self.values


@dataclass(frozen=True)
class Range:
    """An axis of all numbers between two. Integers where both ends are."""

    path: str
    low: float
    high: float

    @property
    def ends(self) -> tuple[Any, ...]:
        return (self.low, self.high)

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def log(self) -> bool:
        return self.low > 0 and self.high / self.low >= DECADE

    def number(self, drawn: float) -> float:
        """A drawn number as it is used: in range, integer or of few digits."""
        number = round(drawn) if self.whole else float(f"{drawn:.{DIGITS}g}")
        return min(max(number, self.low), self.high)


Axis = Choice | Range


def parse_axes(texts: Sequence[str], search: Grid | Random | Optuna) -> tuple[Axis, ...]:
    """Axes as they were written. Raises BadAxis; whether the recipe has such keys and values, the recipe says."""
    axes = tuple(_parse(text) for text in texts)
    paths = [axis.path for axis in axes]
    for text, axis in zip(texts, axes, strict=True):
        if paths.count(axis.path) > 1:
            raise BadAxis(f"--axis {text}: {axis.path} stands twice; give all its values in one axis")
        if isinstance(axis, Range) and isinstance(search, Grid):
            raise BadAxis(
                f"--axis {text}: a range needs --random N or --optuna N; a grid needs values, {axis.path}=1,2"
            )
    return axes


def _parse(text: str) -> Axis:
    path, equals, values = (part.strip() for part in text.partition("="))
    example = "write it as path=value,value, for example --axis update.learning_rate=1e-4,5e-4"
    if not equals or not all(path.split(".")) or not values:
        raise BadAxis(f"--axis {text}: {example}")
    if path == "seed":
        raise BadAxis(f"--axis {text}: seeds are what a point is averaged over; use --seeds N, and --set seed=FIRST")
    if path.split(".")[0] == "runtime":
        raise BadAxis(f"--axis {text}: runtime changes no result, so there is nothing to compare; use --set")
    if ends := re.fullmatch(rf"({NUMBER})\.\.({NUMBER})", values):
        low, high = (_number(end) for end in ends.groups())
        if not low < high:
            raise BadAxis(f"--axis {text}: the range is empty; write the smaller number first")
        return Range(path, low, high)
    try:
        listed = yaml.safe_load(f"[{values}]")
    except yaml.YAMLError as error:
        raise BadAxis(f"--axis {text}: the values are not valid YAML; {example}") from error
    return Choice(path, tuple(listed))


def _number(text: str) -> float:
    return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)


def point(axes: Sequence[Axis], values: Sequence[Any]) -> Point:
    """Values of the axes as overrides of a recipe. JSON is YAML, and keeps text apart from numbers."""
    return tuple(f"{axis.path}={json.dumps(value, default=str)}" for axis, value in zip(axes, values, strict=True))


def extremes(axes: Sequence[Axis], limit: int = 1024) -> Iterator[Point]:
    """Combinations of all values and ends of ranges: if the recipe takes these, it takes what lies between."""
    return itertools.islice((point(axes, values) for values in itertools.product(*(a.ends for a in axes))), limit)


def propose(
    axes: Sequence[Axis], search: Grid | Random | Optuna, seed: int
) -> Generator[list[Point], list[float | None], None]:
    """Batches of points; after each, send the accuracies of its points, None for a point without accuracy.

    Same axes, seed and accuracies, same points: a sweep that was killed proposes again what it proposed.
    """
    match search:
        case Grid():
            yield list(dict.fromkeys(point(axes, values) for values in itertools.product(*(a.ends for a in axes))))
        case Random():
            yield _draw(axes, search.points, seed)
        case Optuna():
            yield from _study(axes, search.points, seed)


def _draw(axes: Sequence[Axis], count: int, seed: int) -> list[Point]:
    """Distinct points; fewer than `count` where there are not so many."""
    dice = random.Random(seed)
    drawn: dict[Point, None] = {}
    for _ in range(100 * count):
        drawn[point(axes, [_draw_one(axis, dice) for axis in axes])] = None
        if len(drawn) == count:
            break
    return list(drawn)


def _draw_one(axis: Axis, dice: random.Random) -> Any:
    if isinstance(axis, Choice):
        return dice.choice(axis.values)
    if axis.log:
        return axis.number(math.exp(dice.uniform(math.log(axis.low), math.log(axis.high))))
    return dice.randint(int(axis.low), int(axis.high)) if axis.whole else axis.number(dice.uniform(axis.low, axis.high))


def _study(axes: Sequence[Axis], count: int, seed: int) -> Generator[list[Point], list[float | None], None]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=BATCH, multivariate=True, constant_liar=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for start in range(0, count, BATCH):
        trials = [study.ask() for _ in range(min(BATCH, count - start))]
        accuracies = yield [point(axes, [_suggest(trial, axis) for axis in axes]) for trial in trials]
        for trial, accuracy in zip(trials, accuracies, strict=True):
            if accuracy is None:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, accuracy)


def _suggest(trial: Any, axis: Axis) -> Any:
    if isinstance(axis, Choice):  # by position: a value may be a list, which Optuna takes for no category
        return axis.values[trial.suggest_categorical(axis.path, list(range(len(axis.values))))]
    suggest = trial.suggest_int if axis.whole else trial.suggest_float
    return axis.number(suggest(axis.path, axis.low, axis.high, log=axis.log))
