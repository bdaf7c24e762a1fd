"""What came of a sweep: children's outcomes -> ranking, and the rule that ends hopeless children early.

A child is a point (`racro.sweeps.axes`) with a seed, and a training like any other. Not here: how children are run
(`tasks.sweep`), in which order (`flows.sweep`), what the page looks like (`racro.reports.sweep`).

**The rule.** A child is stopped at an evaluation when its accuracy lies more than two standard errors (of the
difference) below the median of the finished siblings' at the same iteration, three finished siblings at least. The
start and the end of a training stop nobody.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from racro.config import Recipe
from racro.summary import StageTotal
from racro.sweeps.axes import Sweep

SIBLINGS = 3
"""Finished siblings that the rule needs; the median of fewer is one child's luck."""
MARGIN = 2.0
"""Standard errors of the difference below the median."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Measured(_Frozen):
    """A child at one evaluation."""

    iteration: int
    accuracy: float
    stderr: float
    n: int


class Outcome(_Frozen):
    """What became of a child; the file that makes it known to its siblings and to the next command."""

    child: str
    """Name of the run."""
    recipe_digest: str
    status: Literal["running", "finished", "stopped", "diverged", "failed"]
    """`diverged`: its numbers were no longer finite. That is a result: the same recipe diverges again. `failed`: it may
    go better the next time."""
    curve: tuple[Measured, ...] = ()
    seconds: float = 0.0
    """Wall time of the attempt that ended so."""
    note: str = ""
    """Why it was stopped, diverged or failed, in one line."""
    mlflow_run_id: str = ""
    stages: dict[str, StageTotal] = {}
    """Of a finished child: what it executed and what it found, in the attempt that finished it."""


class Child(_Frozen):
    """A child as its process gets to know it."""

    name: str
    """Of its run."""
    recipe: Recipe
    root: str
    sweep: str
    """Name of the sweep."""
    siblings: dict[str, str]
    """Name -> recipe digest of the others."""
    stop_hopeless: bool


class Trial(_Frozen):
    """A point and its children, one per seed."""

    values: dict[str, Any]
    """Key of the recipe -> value, as the recipe understood it."""
    children: tuple[Outcome, ...]


class Standing(_Frozen):
    """A point in the ranking."""

    rank: int | None
    """None where no child of the point finished or was stopped."""
    values: dict[str, Any]
    accuracy: float | None
    """Mean over the children of their last evaluation; of the finished ones, when none was stopped."""
    stderr: float | None
    """Standard error over seeds; with one seed, over held-out problems."""
    seeds: int
    """Children behind the mean."""
    n: int
    """Held-out problems behind the mean, all seeds together."""
    finished: int
    stopped: int
    diverged: int = 0
    failed: int
    seconds: float
    """Wall time of all its children."""
    children: tuple[str, ...]
    """Names of their runs."""


class SweepSummary(_Frozen):
    """summary.json of a sweep."""

    run: str
    recipe_digest: str
    """Of the recipe that the axes change."""
    seed: int
    plan: Sweep
    ranking: tuple[Standing, ...]
    """Best first; points with a stopped or diverged child after those without, points without any accuracy last."""
    children: tuple[Outcome, ...]
    started: int
    """Children that this command ran; the others had ended before."""
    stages: dict[str, StageTotal]
    """Sum over the finished children: what is shared is executed by one of them and cached in the others."""
    seconds: float
    prefect_flow_run_id: str
    mlflow_run_id: str


def hopeless(now: Measured, siblings: Sequence[Outcome]) -> str | None:
    """Why a child is to be stopped at this evaluation, or None. See the rule at the top."""
    finished = [s.curve for s in siblings if s.status == "finished"]
    at = [m for curve in finished for m in curve if m.iteration == now.iteration]
    if len(at) < SIBLINGS:
        return None
    median = statistics.median(m.accuracy for m in at)
    error = math.hypot(now.stderr, statistics.median(m.stderr for m in at))
    if now.accuracy >= median - MARGIN * error:
        return None
    return (
        f"stopped at iteration {now.iteration}: accuracy {now.accuracy:.3f} is more than {MARGIN:g} standard errors "
        f"({error:.3f}) below {median:.3f}, the median of {len(at)} finished siblings"
    )


def rank(trials: Sequence[Trial]) -> tuple[Standing, ...]:
    """The ranking. A point that lost a seed does not pass one that lost none: its mean is over the lucky seeds."""
    standings = sorted(
        (standing(trial) for trial in trials),
        key=lambda s: (s.accuracy is None, s.stopped + s.diverged > 0, -(s.accuracy or 0.0)),
    )
    return tuple(
        s.model_copy(update={"rank": place if s.accuracy is not None else None}) for place, s in enumerate(standings, 1)
    )


def standing(trial: Trial) -> Standing:
    """One point, not ranked yet."""
    ended = [child.curve[-1] for child in trial.children if child.status in ("finished", "stopped") and child.curve]
    accuracies = [measured.accuracy for measured in ended]
    return Standing(
        rank=None,
        values=trial.values,
        accuracy=statistics.fmean(accuracies) if ended else None,
        stderr=_stderr(ended),
        seeds=len(ended),
        n=sum(measured.n for measured in ended),
        finished=sum(child.status == "finished" for child in trial.children),
        stopped=sum(child.status == "stopped" for child in trial.children),
        diverged=sum(child.status == "diverged" for child in trial.children),
        failed=sum(child.status == "failed" for child in trial.children),
        seconds=round(sum(child.seconds for child in trial.children), 3),
        children=tuple(child.child for child in trial.children),
    )


def _stderr(ended: Sequence[Measured]) -> float | None:
    if len(ended) > 1:
        return statistics.stdev(m.accuracy for m in ended) / math.sqrt(len(ended))
    return ended[0].stderr if ended else None


def total(children: Sequence[Outcome]) -> dict[str, StageTotal]:
    """Stages summed over children."""
    sums: dict[str, StageTotal] = {}
    for child in children:
        for name, stage in child.stages.items():
            before = sums.get(name, StageTotal(seconds=0.0, executed=0, cached=0))
            sums[name] = StageTotal(
                seconds=round(before.seconds + stage.seconds, 3),
                executed=before.executed + stage.executed,
                cached=before.cached + stage.cached,
            )
    return sums
