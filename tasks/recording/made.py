"""What a training has made so far: the data of its reports, its curves and its records."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from racro.config import Recipe
from racro.curves import EvalPoint, IterationPoint
from racro.evaluation.heldout import by_category
from racro.schema import Entry, EntryTable, Policy, ProblemTable, ResultTable
from racro.storage import artifacts
from racro.summary import Raised, Score
from tasks.recording.iteration import Iteration
from tasks.recording.registry import Judge
from tasks.running.stages import Stages


class Evaluated(NamedTuple):
    """A policy of a training on the held-out problems."""

    iteration: int
    policy: Policy
    score: Score
    results: ResultTable
    entry: EntryTable

    def point(self) -> EvalPoint:
        """Its point of the curves."""
        categories = by_category(entry_of(self.entry))
        return EvalPoint(iteration=self.iteration, step=self.policy.step, by_category=categories, **dict(self.score))


def entry_of(table: EntryTable) -> Entry:
    """The one row of an entry's table."""
    (entry,) = artifacts.read_table(table, Entry)
    return entry


@dataclass
class Made:
    """By one flow run. Grows while it lasts."""

    recipe: Recipe
    name: str
    """Of the run."""
    stages: Stages
    mlflow_run: str
    judge: Judge
    problems: ProblemTable
    """The training problems."""
    started: float = field(default_factory=time.time)
    """Seconds since 1970."""
    evaluations: list[Evaluated] = field(default_factory=list)
    iterations: list[Iteration] = field(default_factory=list)
    points: list[IterationPoint] = field(default_factory=list)
    alarms: list[Raised] = field(default_factory=list)
    curve: UUID | None = None
    """Prefect's artifact that shows the curve."""

    @property
    def root(self) -> str:
        """Where the run's folder is."""
        return self.stages.root
