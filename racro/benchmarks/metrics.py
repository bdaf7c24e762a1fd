"""Verdicts -> scores: shares with standard error and n, over questions or over families of questions.

What a benchmark counts is in its own file. Failed verdicts say nothing about a model: they are in no share.
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
    """A question and what became of its answer."""

    question: Question
    verdict: Verdict
    samples: tuple[str | None, ...] = ()
    """Answers found in repetitions of the same question, of which `verdict` judges the first; None: none found."""


class Scores(Row):
    """The scores of one run on one benchmark."""

    metrics: tuple[Metric, ...]
    """The headline first. What has no case is left out: no metrics where no answer was graded."""
    unscored: int
    """Failed verdicts."""
    families: int
    """0 for a benchmark that scores its questions one by one."""
    incomplete: int
    """Families of which a part is missing or failed: they are in no metric over families."""


Family = dict[str, bool]
"""Part -> right."""


def accuracy(graded: Iterable[Graded], name: str = "accuracy") -> list[Metric]:
    """Share of right answers, its standard error that of independent questions; empty where nothing is scored."""
    share = Share.of(g.verdict is Verdict.CORRECT for g in scored(graded))
    return [] if share is None else [Metric(name=name, **dict(share))]


def by_label(graded: Sequence[Graded], name: str = "accuracy", only: Sequence[str] | None = None) -> list[Metric]:
    """Accuracy for every value of every label, of the labels in `only` where it is given."""
    groups: dict[tuple[str, str], list[Graded]] = {}
    for g in graded:
        for label in g.question.labels:
            if only is None or label.name in only:
                groups.setdefault((label.name, label.value), []).append(g)
    order = list(dict.fromkeys(label for label, _ in groups))
    keys = sorted(groups, key=lambda key: (order.index(key[0]), key[1]))
    return [metric for key in keys for metric in accuracy(groups[key], " / ".join((name, *key)))]


def scored(graded: Iterable[Graded]) -> list[Graded]:
    """Those with a verdict about the model."""
    return [g for g in graded if g.verdict is not Verdict.FAILED]


def simple_scores(graded: Sequence[Graded]) -> Scores:
    """Accuracy, overall and by label, of a benchmark whose questions are independent."""
    metrics = (*accuracy(graded), *by_label(graded))
    return Scores(metrics=metrics, unscored=len(graded) - len(scored(graded)), families=0, incomplete=0)


def alike(one: str | None, other: str | None, gold: Gold) -> bool:
    """Are two answers to one question the same? No answer is like none, nor are two on which the grader fails."""
    try:
        return one is not None and other is not None and equal(one, gold._replace(answer=other))
    except GraderFailed:
        return False


def families(graded: Iterable[Graded]) -> dict[str, list[Graded]]:
    """Questions by family, in the order in which families first appear."""
    found: dict[str, list[Graded]] = {}
    for g in graded:
        found.setdefault(g.question.family or g.question.uid, []).append(g)
    return found


def ratio(
    name: str, part_F: Sequence[float], whole_F: Sequence[float] | None = None, n: int | None = None
) -> list[Metric]:
    """Sum of `part_F` over sum of `whole_F` (1 each when None), for F families, which are the independent cases.

    The standard error is that of the bootstrap over families, with seeded resamples; where no resample differs, that of
    F independent cases. `n` is the sum of `whole_F` when None. Empty where there is nothing to count.
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
