"""Reference captions: one that is known to be good joins a group in which no caption leads to the right answer.

After ViSurf (arXiv 2510.10606, from notes on it). There the reference is part of every group, and where a caption of
the policy is right too, its reward is the mean of theirs, so that its advantage is 0. Here such groups stay as they
are, and no reference is scored for them. Pure. Called by the stages refer and compose.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from racro.embedded.checks import description
from racro.schema import Problem, RewardRow, Rollout

R = TypeVar("R", bound=Rollout)


def reference_of(problem: Problem) -> str:
    """The known caption of a problem; empty if there is none."""
    return description(problem.scene) if not problem.reference and problem.scene is not None else problem.reference


def wanting(rollouts: Sequence[Rollout], answers: Sequence[RewardRow]) -> list[Rollout]:
    """The last caption of each group in which none is right and at least one is known to be wrong.

    `answers`: the values of the reward `answer`, in the order of the rollouts, whose groups are neighbours.
    """
    groups = itertools.groupby(zip(rollouts, answers, strict=True), key=lambda pair: pair[0].uid)
    known = [(list(group)) for _, group in groups]
    return [group[-1][0] for group in known if {row.value for _, row in group} - {None} == {0.0}]


def refer(
    last: Iterable[Rollout], problems: Mapping[str, Problem], encode: Callable[[str], tuple[int, ...]]
) -> Iterator[Rollout]:
    """A reference for each of these groups whose problem has one, as the caption after the last of the group.

    `encode`: from a text to the token ids of a turn that says it, with its end.
    """
    for row in last:
        if text := reference_of(problems[row.uid]):
            yield Rollout(
                uid=row.uid,
                sample=row.sample + 1,
                policy=row.policy,
                prompt_ids=row.prompt_ids,
                completion_ids=encode(text),
                logprobs=(),
                finish_reason="stop",
                caption=text,
                reference=True,
            )


Scored = tuple[list[Rollout], list[list[RewardRow]]]
"""Captions, and a table for each reward in their order."""


def joined(captions: Scored, references: Scored, answer: int) -> Scored:
    """The captions with the references at the ends of their groups.

    Left out are references that do not lead to the right answer: what nobody can answer from is no example. `answer`:
    number of the reward `answer`.
    """
    rows = zip(references[0], *references[1], strict=True)
    found = {row[0].uid: row for row in rows if row[1 + answer].value == 1.0}
    made: list[tuple[Rollout, tuple[RewardRow, ...]]] = []
    own = zip(captions[0], zip(*captions[1], strict=True), strict=True)
    for uid, group in itertools.groupby(own, key=lambda pair: pair[0].uid):
        made += group
        if uid in found:
            reference, *values = found[uid]
            made.append((reference, tuple(values)))
    return [row for row, _ in made], [[values[i] for _, values in made] for i in range(len(captions[1]))]


def own(rows: Iterable[R]) -> Iterator[R]:
    """The captions that the policy wrote."""
    return (row for row in rows if not row.reference)
