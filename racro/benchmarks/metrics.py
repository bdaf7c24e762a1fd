"""Verdicts -> scores: shares with standard error and n, over questions or over families of questions.

What a benchmark counts is in the benchmark's file. Failed verdicts say nothing about a model and are in no share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from racro.data.golds import Gold
from racro.grading import GraderFailed, equal
from racro.schema import Metric, Question, Row, Share, Verdict
from racro.schema.shares import standard_error

RESAMPLES = 1000
SEED = 0


class Graded(NamedTuple):
    """A question and the verdict on its answer."""

    question: Question
    verdict: Verdict
    samples: tuple[str | None, ...] = ()
    """Answers found in repeated samples; `verdict` judges the first. None: no answer was found."""


class Scores(Row):
    """The scores of one run on one benchmark."""

    metrics: tuple[Metric, ...]
    """The headline first. Metrics without a case are left out; there are none if no answer was graded."""
    unscored: int
    """Number of failed verdicts."""
    families: int
    """Number of families; 0 for a benchmark that scores questions one by one."""
    incomplete: int
    """Number of families with a missing or failed part; they are in no metric over families."""


Family = dict[str, bool]
"""Part -> was its answer right?"""


def accuracy(graded: Iterable[Graded], name: str = "accuracy") -> list[Metric]:
    """Share of right answers, with the standard error of independent questions; empty if nothing is scored."""
    share = Share.of(g.verdict is Verdict.CORRECT for g in scored(graded))
    return [] if share is None else [Metric(name=name, **dict(share))]


def by_label(graded: Sequence[Graded], name: str = "accuracy", only: Sequence[str] | None = None) -> list[Metric]:
    """Accuracy for every value of every label, or only of the labels in `only`."""
    groups: dict[tuple[str, str], list[Graded]] = {}
    for g in graded:
        for label in g.question.labels:
            if only is None or label.name in only:
                groups.setdefault((label.name, label.value), []).append(g)
    order = list(dict.fromkeys(label for label, _ in groups))
    keys = sorted(groups, key=lambda key: (order.index(key[0]), key[1]))
    return [metric for key in keys for metric in accuracy(groups[key], " / ".join((name, *key)))]


def scored(graded: Iterable[Graded]) -> list[Graded]:
    """Those whose verdict says something about the model."""
    return [g for g in graded if g.verdict is not Verdict.FAILED]


def simple_scores(graded: Sequence[Graded]) -> Scores:
    """Accuracy, overall and by label, for a benchmark with independent questions."""
    metrics = (*accuracy(graded), *by_label(graded))
    return Scores(metrics=metrics, unscored=len(graded) - len(scored(graded)), families=0, incomplete=0)


def alike(one: str | None, other: str | None, gold: Gold) -> bool:
    """Are two answers to one question the same? Missing answers and those on which the grader fails never are."""
    try:
        return one is not None and other is not None and equal(one, gold._replace(answer=other))
    except GraderFailed:
        return False


def families(graded: Iterable[Graded]) -> dict[str, list[Graded]]:
    """Questions by family, in the order of first appearance."""
    found: dict[str, list[Graded]] = {}
    for g in graded:
        found.setdefault(g.question.family or g.question.uid, []).append(g)
    return found


def ratio(
    name: str, part_F: Sequence[float], whole_F: Sequence[float] | None = None, n: int | None = None
) -> list[Metric]:
    """Sum of `part_F` divided by sum of `whole_F` (None: 1 each), for F families, which are the independent cases.

    The standard error comes from a bootstrap over families with seeded resamples; if no resample differs, it is that of
    F independent cases. `n` None: the sum of `whole_F`. Empty if there is nothing to count.
    """
    part = np.asarray(part_F, float)
    whole = np.ones_like(part) if whole_F is None else np.asarray(whole_F, float)
    if whole.sum() == 0:
        return []
    F = len(part)
    times_RF = np.random.default_rng(SEED).multinomial(F, np.full(F, 1 / F), RESAMPLES)
    whole_R = times_RF @ whole
    share_R = (times_RF @ part)[whole_R > 0] / whole_R[whole_R > 0]
    value = float(part.sum() / whole.sum())
    stderr = float(share_R.std()) if np.ptp(share_R) > 1e-9 else standard_error(value, F)
    return [Metric(name=name, value=value, stderr=stderr, n=n or round(whole.sum()))]
