"""The actor that owns all others of a run, and ends them when the run's process is gone.

It is detached and found by its name, by the next process of the run too. The others and their placement groups are
owned by it, so Ray ends them with it, however it ends. Created by `racro.cluster.session`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from racro.cluster.agent import Agent
from racro.processes.launcher import Superseded

CHECKS = 8
"""Checks in a row without a renewal after which the run's process counts as gone."""
THREADS = 16
"""Calls that an agent works on at once."""

Bundle = dict[str, float]
"""Ray's resources for one actor."""


@dataclass
class Kept:
    """The actors of a role."""

    settings: str
    bundles: Sequence[Bundle]
    group: PlacementGroup
    agents: dict[int, Any] = field(default_factory=dict)
    """By the number of the copy."""


class Keeper:
    """The roles of a run."""

    def __init__(self, lease: float) -> None:
        """`lease`: seconds without a renewal after which all ends."""
        self.lease, self.session, self.renewed = lease, "", 0
        self.lock = threading.RLock()
        self.roles: dict[str, Kept] = {}
        threading.Thread(target=self._watch, daemon=True).start()

    def take(self, session: str) -> None:
        """A process of the run begins to use what is here; the one before cannot any more."""
        self.session = session
        self.renewed += 1

    def renew(self, session: str) -> bool:
        """The run's process lives. False if another one has taken its place."""
        self.renewed += session == self.session
        return session == self.session

    def open(self, session: str, role: str, settings: str, bundles: Sequence[Bundle], strategy: str) -> None:
        """Reserve room for the copies of a role. What is there for other settings ends."""
        with self.lock:
            self._require(session)
            known = self.roles.get(role)
            if known is not None and (known.settings, known.bundles) != (settings, bundles):
                self._drop(role)
            if role not in self.roles:
                group = placement_group(list(bundles), strategy=strategy.upper(), name=role)
                self.roles[role] = Kept(settings, bundles, group)

    def ready(self, role: str) -> bool:
        """Is there room? Waits for a moment."""
        return bool(self.roles[role].group.wait(1))

    def agent(self, session: str, role: str, copy: int, fresh: bool, scratch: str | None, cache: int) -> Any:
        """The actor for a copy. `fresh`: not the one that was there before."""
        with self.lock:
            self._require(session)
            kept = self.roles[role]
            if fresh and copy in kept.agents:
                ray.kill(kept.agents.pop(copy))
            if copy not in kept.agents:
                given = dict(kept.bundles[copy])
                options: dict[str, Any] = {
                    "num_cpus": given.pop("CPU", 0),
                    "num_gpus": given.pop("GPU", 0),
                    "resources": given,
                    "max_concurrency": THREADS,
                    "max_restarts": 0,  # one that Ray starts again would hold other weights
                    "scheduling_strategy": PlacementGroupSchedulingStrategy(kept.group, copy),
                }
                kept.agents[copy] = ray.remote(Agent).options(**options).remote(scratch, cache)
            return kept.agents[copy]

    def drop(self, session: str, role: str) -> None:
        """End the actors of a role and give their room back."""
        with self.lock:
            self._require(session)
            if role in self.roles:
                self._drop(role)

    def close(self, session: str) -> None:
        """End all."""
        with self.lock:
            self._require(session)
            self._end()

    def _end(self) -> None:
        for role in list(self.roles):
            self._drop(role)

    def _drop(self, role: str) -> None:
        kept = self.roles.pop(role)
        for agent in kept.agents.values():
            ray.kill(agent)
        remove_placement_group(kept.group)

    def _require(self, session: str) -> None:
        if session != self.session:
            raise Superseded("another process of this run uses the cluster now")

    def _watch(self) -> None:
        """End when the run's process is gone. Counts checks, not the clock: both may have been stopped together."""
        seen, quiet = self.renewed, 0
        while quiet < CHECKS:
            time.sleep(self.lease / CHECKS)
            quiet = quiet + 1 if self.renewed == seen else 0
            seen = self.renewed
        with self.lock:
            try:
                self._end()
            finally:
                os._exit(0)
