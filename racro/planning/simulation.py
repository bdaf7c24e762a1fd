"""A training on a clock: who works when, iteration by iteration. Pure; thousands of iterations take milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Times:
    """Seconds of the parts of an iteration, each on its own GPUs."""

    captions: float
    rewards: tuple[tuple[str, float], ...]
    """Roles with the seconds that they work on the rewards, in the order in which they are asked."""
    update: float
    weights: float
    """Until the engine has the new weights."""
    save: float
    """Writing the trainer's state."""
    describe: float = 0.0
    """Captions of an evaluation."""
    answer: float = 0.0
    """Answers of an evaluation."""
    first: float = 0.05
    """Share of the captions' time after which the first of them are done, where the reasoner need not wait for all."""


@dataclass
class Run:
    """What came out."""

    seconds: float = 0.0
    busy: dict[str, float] = field(default_factory=dict)
    """Seconds in which each role worked."""

    def works(self, role: str, seconds: float) -> None:
        """Count work."""
        self.busy[role] = self.busy.get(role, 0.0) + seconds


def simulate(times: Times, iterations: int, every: int, lag: int, streaming: bool, save_every: int = 1) -> Run:
    """A training with `iterations`, evaluated before, at the end and after each `every` of them.

    streaming: the first reward's role answers while captions are still written. lag: captions of an iteration come
    from the policy so many updates before; they are written while the update before runs.
    """
    run = Run()
    policies = [0.0]
    """When the policy after so many updates can write."""
    engine = trainer = 0.0
    for number in range(iterations):
        start = max(engine, policies[max(0, number - lag)])
        if number % every == 0:
            start = _evaluate(run, times, max(start, policies[number]))
        written = start + times.captions
        run.works("captioner", times.captions)
        scored = written
        for place, (role, seconds) in enumerate(times.rewards):
            run.works(role, seconds)
            if place == 0 and streaming and role != "captioner":
                scored = max(start + times.first * times.captions + seconds, written + times.first * seconds)
            else:
                scored += seconds
        engine = scored
        trainer = max(trainer, scored) + times.update
        run.works("trainer", times.update)
        if (number + 1) % save_every == 0:
            trainer += times.save
        policies.append(trainer + times.weights)
    run.seconds = _evaluate(run, times, max(engine, policies[-1]))
    return run


def _evaluate(run: Run, times: Times, start: float) -> float:
    run.works("captioner", times.describe)
    run.works("reasoner", times.answer)
    return start + times.describe + times.answer
