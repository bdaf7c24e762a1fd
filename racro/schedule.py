"""Which iterations has a training, and what happens around each of them? Iterations are counted over all its stages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from racro.config import Recipe

STATES = 2
"""States of the trainer that a training keeps, the newest ones: one to go on from, one if that is damaged."""


class Round(NamedTuple):
    """One iteration."""

    number: int
    """Counted from 0 over the whole training: seeds, the order of problems and evaluations go by it."""
    stage: int
    """Number of its stage."""
    begin: int
    """Number of the first iteration of its stage."""
    phase: Recipe
    """The recipe of its stage."""
    fresh: bool
    """Does it begin a stage whose optimizer begins anew, and whose first policy is the reference of the KL?"""
    save: bool
    """Is the trainer's state written after it? A stage that goes on from another needs that one's last state."""

    @property
    def writer(self) -> int:
        """Number of updates after which the policy is that writes its captions; `number` or, by `rollout.lag`, fewer.

        The first iteration of a stage has no lag: its captions come from the policy with which the stage begins.
        """
        return max(self.begin, self.number - self.phase.rollout.lag)

    @property
    def ahead(self) -> bool:
        """Can its captions be written before the update of the iteration before it has ended?"""
        return self.writer < self.number


def rounds(recipe: Recipe) -> Iterator[Round]:
    """All iterations in order."""
    number, every, stages = 0, recipe.runtime.checkpoint_every, recipe.stages
    for stage, phase in enumerate(recipe.phases):
        begin = number
        goes_on = stage + 1 < len(stages) and stages[stage + 1].start == "continued"
        for done in range(phase.iterations):
            last = done + 1 == phase.iterations
            fresh = done == 0 and (not stages or stages[stage].start == "fresh")
            save = (number + 1) % every == 0 or (last and goes_on) or number + 1 == recipe.rounds
            yield Round(number, stage, begin, phase, fresh, save)
            number += 1


def evaluated(recipe: Recipe, number: int) -> bool:
    """Is the policy after this many iterations evaluated? Those with which stages begin and end always are."""
    ends = [sum(phase.iterations for phase in recipe.phases[: i + 1]) for i in range(len(recipe.phases))]
    return number % recipe.evaluation.every == 0 or number in ends
