"""The result of a sweep: children's outcomes -> ranking, and the rule that stops hopeless children early.

A child is a point (`racro.sweeps.axes`) with a seed, and otherwise an ordinary training. Not here: how children are run
(`tasks.sweep`), in which order (`flows.sweep`), what the page looks like (`racro.reports.sweep`).

**The rule.** A child is stopped at an evaluation when its accuracy lies more than two standard errors (of the
difference) below the median of at least three finished siblings at the same iteration. No child is stopped at the start
or the end of its training.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from racro.config import Recipe
from racro.schema import Frozen, Share
from racro.summary import Accuracy, StageTotal
from racro.sweeps.axes import Sweep

SIBLINGS = 3
"""Finished siblings that the rule needs; a median of fewer depends on the luck of one child."""
MARGIN = 2.0
"""Standard errors of the difference below the median."""


class Measured(Accuracy):
    """A child at one evaluation."""

    iteration: int


class Outcome(Frozen):
    """The state of a child: the file from which its siblings and the next command know it."""

    child: str
    """Name of the run."""
    recipe_digest: str
    status: Literal["running", "finished", "stopped", "diverged", "failed"]
    """`diverged`: its numbers were no longer finite. That is a result: the same recipe diverges again. `failed`: it may
    go better the next time."""
    curve: tuple[Measured, ...] = ()
    seconds: float = 0.0
    """Wall time of the run that ended with this status."""
    note: str = ""
    """Why it was stopped, diverged or failed, in one line."""
    mlflow_run_id: str = ""
    stages: dict[str, StageTotal] = Field(default_factory=dict)
    """Of a finished child: its stages in the run that finished it."""


class Child(Frozen):
    """A child as its process receives it."""

    name: str
    """Of its run."""
    recipe: Recipe
    root: str
    sweep: str
    """Name of the sweep."""
    siblings: dict[str, str]
    """Name -> recipe digest of the others."""
    stop_hopeless: bool


class Trial(Frozen):
    """A point and its children, one per seed."""

    values: dict[str, Any]
    """Key of the recipe -> value, as the recipe understood it."""
    children: tuple[Outcome, ...]


class Standing(Frozen):
    """A point in the ranking."""

    rank: int | None
    """None where no child of the point finished or was stopped."""
    values: dict[str, Any]
    accuracy: float | None
    """Mean over the children of their last evaluation; of the finished ones, when none was stopped."""
    stderr: float | None
    """Standard error over seeds; with one seed, or several that agree, over held-out problems."""
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

    @property
    def share(self) -> Share | None:
        """The mean accuracy for display."""
        if self.accuracy is None or self.stderr is None:
            return None
        return Share(value=self.accuracy, stderr=self.stderr, n=self.n)


class SweepSummary(Frozen):
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
    """Sum over the finished children: a shared stage is executed in one of them and cached in the others."""
    seconds: float
    prefect_flow_run_id: str
    mlflow_run_id: str

    @property
    def fewer(self) -> str:
        """What to say where fewer points were trained than `--random` or `--optuna` asked for; empty otherwise."""
        search, there = self.plan.search, len(self.ranking)
        if search.type == "grid" or there >= search.points:
            return ""
        return f"{search.points} points were asked for, and {there} of those that were drawn are distinct"


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
    """Over seeds. Of a single one, and of several that happen to agree, which would be 0: over problems."""
    spread = statistics.stdev(m.accuracy for m in ended) / math.sqrt(len(ended)) if len(ended) > 1 else 0.0
    return spread or (ended[0].stderr if ended else None)


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
