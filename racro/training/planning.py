"""Scored rollouts -> which groups are trained on, and in which optimizer steps.

Plain data: no model, no TRL. Called by the stage update; `racro.training.trainer` then trains on the plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from racro.config import Objective
from racro.errors import BadInput
from racro.schema import Problem, ScoredRollout


class BadRollouts(BadInput):
    """Rollouts that cannot be trained on: groups of different sizes, duplicates, another policy, unknown problems."""


@dataclass(frozen=True)
class Group:
    """The G scored captions of one problem."""

    problem: Problem
    rollouts: tuple[ScoredRollout, ...]


@dataclass(frozen=True)
class Plan:
    """How the groups of an iteration are divided into optimizer steps."""

    groups: tuple[Group, ...]
    """The informative groups that are trained on; their number is a multiple of `steps`."""
    steps: int
    total_groups: int
    zero_variance: int
    """Number of groups dropped because no caption of theirs has an advantage other than 0."""
    left_over: int
    """Number of informative groups dropped to make the steps equal; fewer than `steps`."""
    objective: Objective = "caption"
    """What the policy was asked for."""
    writer: str | None = None
    """The policy that wrote the captions, if it is an earlier one than the policy that is updated (`rollout.lag`)."""

    def numbers(self, step: int) -> range:
        """The numbers of the groups of an optimizer step, which depend on nothing but the rollouts and `mini_batch`."""
        size = len(self.groups) // self.steps
        return range(step * size, (step + 1) * size)


def plan(
    rollouts: Sequence[ScoredRollout],
    problems: dict[str, Problem],
    policy: str,
    mini_batch: int,
    objective: Objective = "caption",
    writer: str | None = None,
) -> Plan:
    """Check the rollouts, drop groups without signal, and divide the rest into equal optimizer steps.

    `policy`: the one to update. `writer`: the one that wrote, if it is another. `mini_batch`: desired number of
    problems per step; the number of steps is rounded. Raises BadRollouts.
    """
    expected = writer or policy
    groups: dict[str, list[ScoredRollout]] = {}
    for rollout in rollouts:
        if rollout.policy != expected:
            what = "policy to update" if writer is None else "policy that should have written them"
            raise BadRollouts(f"rollouts of policy {rollout.policy[:12]}, but the {what} is {expected[:12]}")
        if rollout.uid not in problems:
            raise BadRollouts(f"rollout of an unknown problem {rollout.uid!r}")
        groups.setdefault(rollout.uid, []).append(rollout)
    sizes = {len(group) for group in groups.values()}
    if len(sizes) > 1:
        small = min(groups, key=lambda uid: len(groups[uid]))
        raise BadRollouts(f"groups of different sizes, {sorted(sizes)} captions; {small!r} has {len(groups[small])}")
    for uid, group in groups.items():
        if sorted(r.sample for r in group) != list(range(len(group))):
            found = [r.sample for r in group]
            raise BadRollouts(f"problem {uid!r}: samples {found}; each number from 0 to G-1 must occur once")
    everything = [Group(problems[uid], tuple(group)) for uid, group in groups.items()]
    signal = [group for group in everything if any(r.advantage for r in group.rollouts)]
    steps = max(1, round(len(signal) / mini_batch)) if signal else 0
    kept = len(signal) - len(signal) % steps if steps else 0
    return Plan(
        groups=tuple(signal[:kept]),
        steps=steps,
        total_groups=len(groups),
        zero_variance=len(groups) - len(signal),
        left_over=len(signal) - kept,
        objective=objective,
        writer=writer,
    )
