"""Which GPUs for the trainer, which for captioner, reasoner and judges? The division with the shortest training.

Each role has its own GPUs, as on a Ray cluster. For every size of the trainer that fits, GPUs go one copy after the
other to the role where they save most; the best division is then simulated iteration by iteration.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from racro.engines.opening import prefetches
from racro.errors import BadInput
from racro.planning.given import Gpus, Rates
from racro.planning.load import Load, Phase
from racro.planning.roofline import Ask, generating, updating
from racro.planning.simulation import Run, Times, simulate

FULL = 0.95
"""Share of a GPU's memory that the trainer's estimate may fill."""


class NoSplit(BadInput):
    """Machines on which a training does not fit."""


@dataclass(frozen=True)
class Split:
    """A division of GPUs."""

    trainer: int
    """GPUs, which hold one copy of the model."""
    copies: dict[str, int]
    """Of each engine."""
    parallel: dict[str, int]
    """GPUs of a copy."""

    @property
    def gpus(self) -> dict[str, int]:
        """By role."""
        engines = {role: count * self.parallel[role] for role, count in self.copies.items()}
        return {"trainer": self.trainer, **engines}


@dataclass(frozen=True)
class Found:
    """The best division, and how a training goes with it."""

    split: Split
    times: tuple[Times, ...]
    """Of each stage of the training."""
    run: Run
    """All iterations on the clock."""


class Search:
    """Looks for the best division of GPUs for a load."""

    def __init__(self, load: Load, gpus: Gpus, rates: Rates) -> None:
        self.load, self.gpus, self.rates = load, gpus, rates
        found = {role: model.parallel(gpus) for role, model in load.models.items()}
        self.too_large = sorted(role for role, count in found.items() if count is None)
        self.parallel = {role: count or 0 for role, count in found.items()}
        self._seconds = functools.lru_cache(maxsize=None)(self._generating)

    def best(self) -> Found:
        """The best division. Raises NoSplit."""
        if self.too_large:
            raise NoSplit(
                f"{', '.join(self.too_large)}: no node holds the weights; use larger GPUs or quantised weights"
            )
        least = sum(self.parallel.values())
        if self.gpus.count <= least:
            raise NoSplit(
                f"the engines alone need {least} of {self.gpus.count} GPUs, each role its own, and the trainer some; "
                "use more"
            )
        sizes = [count for count in self._trainers() if self._fits(count)]
        if not sizes:
            most = self.gpus.count - least
            need = self.load.trainer(most) / 1e9
            raise NoSplit(
                f"the trainer needs {need:.0f} GB on each of {most} GPUs, which have {self.gpus.bytes / 1e9:.0f} GB; "
                "use more or larger GPUs, or train an adapter (captioner.lora={})"
            )
        groups = max(phase.update.step for phase in self.load.phases)  # with more GPUs than these, some are idle
        sizes = [count for count in sizes if count <= groups] or sizes[:1]
        splits = [Split(count, self._copies(count), self.parallel) for count in sizes]
        best = min(splits, key=lambda one: (self._cost(one.trainer, one.copies), sum(one.gpus.values())))
        times = tuple(self._times(phase, best.trainer, best.copies) for phase in self.load.phases)
        return Found(best, times, self._simulated(times))

    def _trainers(self) -> Iterator[int]:
        """Sizes of the trainer: powers of two in a node, or whole nodes; any other only if none of these fits."""
        most = self.gpus.count - sum(self.parallel.values())
        within = [2**power for power in range(int(math.log2(self.gpus.gpus)) + 1)]
        whole = range(self.gpus.gpus, most + 1, self.gpus.gpus)
        sizes = sorted({count for count in (*within, *whole) if count <= most})
        if not any(map(self._fits, sizes)):
            sizes = list(range(1, most + 1))
        yield from sizes

    def _fits(self, count: int) -> bool:
        return self.load.trainer(count) <= FULL * self.gpus.bytes

    def _copies(self, trainer: int) -> dict[str, int]:
        copies = dict.fromkeys(self.load.models, 1)
        left = self.gpus.count - trainer - sum(self.parallel.values())
        while True:
            now = self._cost(trainer, copies)
            steps = []
            for role in copies:
                more = self._next(role, copies[role])
                gpus = (more - copies[role]) * self.parallel[role]
                if 0 < gpus <= left and (saved := now - self._cost(trainer, copies | {role: more})) > 0:
                    steps.append((saved / gpus, gpus, role, more))
            if not steps:
                return copies
            _, gpus, role, more = max(steps)
            copies[role], left = more, left - gpus

    def _next(self, role: str, copies: int) -> int:
        """The next number of copies with which some copy is asked less."""
        found = [
            math.ceil(ask.prompts / (each - 1))
            for ask in self._asks(role)
            if (each := math.ceil(ask.prompts / copies)) > 1
        ]
        return max(copies + 1, min(found)) if found else copies

    def _asks(self, role: str) -> Iterator[Ask]:
        for phase in self.load.phases:
            yield from (ask for name, ask in self._all(phase) if name == role)

    def _all(self, phase: Phase) -> list[tuple[str, Ask]]:
        evaluation = [("captioner", self.load.describe), ("reasoner", self.load.answer)]
        return [("captioner", phase.captions), *((role, ask) for _, role, ask in phase.rewards), *evaluation]

    def _generating(self, role: str, ask: Ask, copies: int) -> float:
        most = self.load.recipe.runtime.place(role).sequences
        return generating(ask, self.load.models[role], copies, self.parallel[role], self.gpus, self.rates, most)

    def _asked(self, role: str, ask: Ask, copies: dict[str, int]) -> float:
        """Endpoints of others cost no time here."""
        return self._seconds(role, ask, copies[role]) if role in copies else 0.0

    def _times(self, phase: Phase, trainer: int, copies: dict[str, int]) -> Times:
        return Times(
            captions=self._asked("captioner", phase.captions, copies),
            rewards=tuple((role, self._asked(role, ask, copies)) for _, role, ask in phase.rewards),
            update=updating(phase.update, trainer, self.gpus, self.rates),
            weights=self.load.weights / self.gpus.between(self.gpus.gpus + 1),
            save=self.load.state / (self.gpus.storage * 1e9),
            describe=self._asked("captioner", self.load.describe, copies),
            answer=self._asked("reasoner", self.load.answer, copies),
        )

    def _cost(self, trainer: int, copies: dict[str, int]) -> float:
        """Seconds of the training, without its beginning and end."""
        total, recipe = 0.0, self.load.recipe
        for phase in self.load.phases:
            times = self._times(phase, trainer, copies)
            generation = times.captions + sum(seconds for _, seconds in times.rewards)
            if self.streams and times.rewards:
                first = times.rewards[0][1]
                generation += max(times.captions, first) - times.captions - first
            save = times.save / recipe.runtime.checkpoint_every
            rest = times.update + times.weights + save
            cycle = max(generation, rest) if phase.lag else generation + rest
            total += phase.iterations * (cycle + (times.describe + times.answer) / recipe.evaluation.every)
        return total

    @functools.cached_property
    def streams(self) -> bool:
        """Does the reasoner answer while captions are written?"""
        return prefetches(self.load.recipe.reasoner, self.load.recipe.runtime)

    def _simulated(self, times: tuple[Times, ...]) -> Run:
        every, recipe = self.load.recipe.evaluation.every, self.load.recipe
        runs = [
            simulate(one, phase.iterations, every, phase.lag, self.streams, recipe.runtime.checkpoint_every)
            for phase, one in zip(self.load.phases, times, strict=True)
        ]
        whole = Run(sum(run.seconds for run in runs))
        for run in runs:
            for role, seconds in run.busy.items():
                whole.works(role, seconds)
        return whole
