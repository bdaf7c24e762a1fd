"""Which problems an iteration is about: drawn by what earlier groups of captions say about them.

Pure functions of seed, iteration and what is known of each problem, so that a training that resumes draws the same
problems. The plain walk through all problems is `racro.rollouts.captioner.select`. Called by the stage select.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence

from racro import config
from racro.errors import BadInput
from racro.rollouts.captioner import select
from racro.schema import PassRate, Problem, ScoredRollout, Standing


class NoSuchCategory(BadInput):
    """The curriculum names a category that no problem has."""


class NothingToDraw(BadInput):
    """Every problem has weight 0."""


Known = Mapping[str, tuple[float, float]]
"""Mean and variance of the rewards of a problem's latest group, by uid."""


def known_of(standings: Iterable[Standing]) -> dict[str, tuple[float, float]]:
    """What a table says about problems that had a group."""
    return {s.uid: (s.reward, s.variance) for s in standings if s.reward is not None and s.variance is not None}


def profiled(rates: Iterable[PassRate]) -> dict[str, tuple[float, float]]:
    """Pass rates as if they were groups of rewards 0 and 1."""
    return {row.uid: (row.rate, row.rate * (1 - row.rate)) for row in rates if row.rate is not None}


def learned(known: Known, scored: Iterable[ScoredRollout]) -> dict[str, tuple[float, float]]:
    """What is known after an iteration; groups without a scored caption say nothing."""
    groups: dict[str, list[float]] = {}
    for row in scored:
        if row.reward is not None and not row.reference:
            groups.setdefault(row.uid, []).append(row.reward)
    return {**known, **{uid: (statistics.fmean(own), statistics.pvariance(own)) for uid, own in groups.items()}}


def weights(curriculum: config.Curriculum, problems: Sequence[Problem], known: Known) -> list[float]:
    """How likely each problem is drawn, relative to the others."""
    if isinstance(curriculum, config.PoolsCurriculum):
        return [_pool(curriculum, known.get(problem.uid)) for problem in problems]
    if isinstance(curriculum, config.VarianceCurriculum):
        largest = max((variance for _, variance in known.values()), default=0.0)
        return [
            1.0
            if (own := known.get(problem.uid)) is None
            else max(curriculum.floor, own[1] / largest if largest else 0)
            for problem in problems
        ]
    return [1.0] * len(problems)


def _pool(curriculum: config.PoolsCurriculum, known: tuple[float, float] | None) -> float:
    if known is None:
        return curriculum.new_weight
    reward, _ = known
    if reward <= curriculum.hard:
        return curriculum.hard_weight
    return curriculum.medium_weight if reward <= curriculum.easy else curriculum.easy_weight


def draw(uids: Sequence[str], weights: Sequence[float], count: int, seed: int, iteration: int, round: int) -> list[str]:
    """At most `count` problems, without replacement and with probability by weight; weight 0 is never drawn.

    Each problem draws a number for itself, so that neither its place nor the others change it (Efraimidis and Spirakis,
    2006: the largest of u^(1/w) are such a sample).
    """
    keys = {
        uid: math.log(random.Random(f"curriculum:{seed}:{iteration}:{round}:{uid}").random() or 5e-324) / weight
        for uid, weight in zip(uids, weights, strict=True)
        if weight > 0
    }
    return sorted(keys, key=lambda uid: (-keys[uid], uid))[:count]


def chosen(
    problems: Sequence[Problem],
    curriculum: config.Curriculum,
    count: int,
    seed: int,
    iteration: int,
    round: int,
    known: Known,
    taken: Collection[str],
    category: str | None,
) -> list[str]:
    """The problems of a round. `taken`: those of earlier rounds. `category`: the only one to choose from."""
    pool = [problem for problem in problems if category is None or problem.category == category]
    if round == 0 and isinstance(curriculum, config.UniformCurriculum | config.OrderCurriculum):
        return [problem.uid for problem in select(pool, count, seed, iteration)]
    free = [problem for problem in pool if problem.uid not in taken]
    return draw([problem.uid for problem in free], weights(curriculum, free, known), count, seed, iteration, round)


def standings(uids: Sequence[str], round: int, known: Known, taken: Mapping[str, int]) -> list[Standing]:
    """The table after a round: what is known of problems, and who is captioned in this iteration, in which round.

    The chosen ones come first, in their order; the others by name.
    """
    rounds = {**taken, **dict.fromkeys(uids, round)}
    return [
        Standing(uid=uid, round=rounds.get(uid), reward=own[0] if own else None, variance=own[1] if own else None)
        for uid in dict.fromkeys([*uids, *sorted({*rounds, *known})])
        for own in [known.get(uid)]
    ]


def require_categories(curriculum: config.OrderCurriculum, problems: Iterable[Problem]) -> None:
    """Raises NoSuchCategory for a category without problems."""
    known = {problem.category for problem in problems}
    for category in curriculum.categories:
        if category not in known:
            named = ", ".join(sorted(known))
            raise NoSuchCategory(f"curriculum.categories: no problem has the category {category}; there are {named}")
