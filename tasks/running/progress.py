"""Progress of a stage, for people: log lines with rate and ETA, a Prefect progress artifact, a bar in the terminal.

A stage calls its `Progress` as often as it likes. `flows.cli.terminal` observes stages and trainings, and draws them.
"""

from __future__ import annotations

import time
from uuid import UUID

from prefect import get_run_logger

from tasks.running import observing, stopping, telemetry

LOG_EVERY = 10.0
"""Seconds between log lines."""
ENOUGH = 3
"""Items, and percent of all, before the rest is estimated: the first ones wait for engines that start."""
ARTIFACT_AFTER = 3.0
"""Seconds before a stage is worth a progress artifact; most are over by then."""


def say(line: str) -> None:
    """A line for people, in the log and wherever they look."""
    get_run_logger().info(line)
    for observer in observing.line_observers:
        observer(line)


class Progress:
    """Progress of one stage run. Callable as `(done, total)`."""

    def __init__(self, what: str, unit: str) -> None:
        self.what, self.unit = what, unit
        self.start = self.since = self.last = self.logged = time.monotonic()
        self.artifact: UUID | None = None
        self.done = 0

    def __call__(self, done: int, total: int) -> None:
        stopping.require_going_on()
        now = time.monotonic()
        if done < self.done:  # the stage counts something else now: questions after captions
            self.since = self.logged = self.last
        self.done, self.last = done, now
        for observer in observing.observers:
            observer(self.what, done, total)
        if now - self.logged >= LOG_EVERY:
            self.logged = now
            get_run_logger().info("%s: %d of %d %s, %s", self.what, done, total, self.unit, self._rate(done, total))
            self._show(100.0 * done / max(total, 1))

    def finish(self) -> None:
        """Log the rate of what was counted last, and fill the artifact's bar."""
        for observer in observing.observers:
            observer(self.what, self.done, self.done)
        get_run_logger().info("%s: %d %s, %s", self.what, self.done, self.unit, self._rate(self.done, self.done))
        if self.artifact:
            self._show(100.0)

    def _rate(self, done: int, total: int) -> str:
        seconds = max(time.monotonic() - self.since, 1e-6)
        rate = done / seconds
        if done >= total:
            return f"{rate:.1f} {self.unit}/s in {seconds:.1f} s"
        known = done >= ENOUGH and 100 * done >= ENOUGH * total
        return f"{rate:.1f} {self.unit}/s{f', {(total - done) / rate:.0f} s to go' if known else ''}"

    def _show(self, percent: float) -> None:
        if self.artifact or time.monotonic() - self.start > ARTIFACT_AFTER:
            self.artifact = telemetry.progress(self.artifact, percent, self.what)
