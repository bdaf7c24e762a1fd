"""Scored rollouts -> which groups are trained on, and in which optimizer steps.

Plain data: no model, no TRL. Called by the stage update; `racro.training.trainer` then trains on the plan.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from racro.config import Objective
from racro.errors import BadInput
from racro.schema import Problem, ScoredRollout


class BadRollouts(BadInput):
    """Rollouts that cannot be trained on: groups of different sizes, duplicates, another policy, unknown problems."""


@dataclass(frozen=True)
class Group:
    """The G scored captions of one problem, and a reference at their end if one has joined them."""

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

    @functools.cached_property
    def starts(self) -> tuple[int, ...]:
        """Number of the first caption of each group, captions being counted through all groups; at the end, of all."""
        return tuple(itertools.accumulate((len(group.rollouts) for group in self.groups), initial=0))


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
    sizes = {uid: sum(not rollout.reference for rollout in group) for uid, group in groups.items()}
    if len(set(sizes.values())) > 1:
        small = min(sizes, key=lambda uid: sizes[uid])
        found = sorted(set(sizes.values()))
        raise BadRollouts(f"groups of different sizes, {found} captions; {small!r} has {sizes[small]}")
    for uid, group in groups.items():
        if sorted(r.sample for r in group) != list(range(len(group))):
            samples = [r.sample for r in group]
            raise BadRollouts(f"problem {uid!r}: samples {samples}; each number from 0 to G-1 must occur once")
    everything = [Group(problems[uid], tuple(group)) for uid, group in groups.items()]
    signal = [  # captions without a token have no log-probs to move
        group
        for group in everything
        if any(r.advantage for r in group.rollouts) and any(r.completion_ids for r in group.rollouts)
    ]
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
