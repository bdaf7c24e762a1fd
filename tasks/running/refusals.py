"""What engines refuse in a stage: one log line per problem, and a count for the stage's metrics."""

from __future__ import annotations

from prefect import get_run_logger

from racro.schema import Problem


class Refusals:
    """Called with each problem that an engine refuses; see `racro.rollouts.captioner.Refused`."""

    def __init__(self, done: str) -> None:
        """`done`: what cannot be done with a refused problem, as in "captioned"."""
        self.done = done
        self.requests = 0
        """Refused requests; a problem has several in some stages."""
        self.reasons: dict[str, str] = {}
        """The first reason by the problem's uid."""

    def __call__(self, problem: Problem, reason: str) -> None:
        self.requests += 1
        if problem.uid not in self.reasons:
            self.reasons[problem.uid] = reason
            get_run_logger().warning("problem %s cannot be %s: %s", problem.uid, self.done, reason)

    def __str__(self) -> str:
        """The first problem and its reason; empty if nothing was refused."""
        return next((f"{uid} cannot be {self.done}: {reason}" for uid, reason in self.reasons.items()), "")

    @property
    def problems(self) -> int:
        """Problems with a refusal."""
        return len(self.reasons)

    @property
    def metrics(self) -> dict[str, float]:
        """The count of refused requests, if there are any."""
        return {"refused": self.requests} if self.requests else {}
