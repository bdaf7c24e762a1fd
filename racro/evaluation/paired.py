"""Two lists of verdicts on the same questions: accuracies, their difference, and whether it may be chance.

For programs of your own; evaluations under a root are compared by `racro.evaluation.compare`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from racro.errors import BadInput
from racro.evaluation.compare import mcnemar
from racro.evaluation.outcomes import Gain, Outcome, count_outcomes, gain
from racro.schema import Frozen, Share, Verdict


class Paired(Frozen):
    """A comparison of two models, or of two versions of one."""

    first: Share
    """Accuracy of the first, over the questions that both have a verdict on."""
    second: Share
    gain: Gain
    """Second minus first, with the standard error of the paired difference."""
    outcomes: dict[Outcome, int]
    """`fixed`: only the second is right; `broken`: only the first; `right` and `wrong`: both."""
    p: float
    """McNemar's exact test, two-sided: chance of flips at least this one-sided if both were equally good."""
    unscored: int
    """Questions that are left out, because one of the two verdicts is `failed` or None."""


def accuracy(verdicts: Iterable[Verdict | None]) -> Share | None:
    """Share of right answers, with standard error, 95 % interval and n; None without any verdict.

    `failed` and None (nothing is known) are left out; `unparsed` and `truncated` count as not right.
    """
    return Share.of(verdict is Verdict.CORRECT for verdict in verdicts if _scored(verdict))


def compare(first: Sequence[Verdict | None], second: Sequence[Verdict | None]) -> Paired:
    """Compare two lists of verdicts, question by question. Raises BadInput for lists that do not fit together."""
    if len(first) != len(second):
        raise BadInput(f"compare: {len(first)} verdicts and {len(second)}; give both for the same questions, in order")
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    scored = [(a, b) for a, b in pairs if _scored(a) and _scored(b)]
    before, after = accuracy(a for a, _ in scored), accuracy(b for _, b in scored)
    if before is None or after is None:
        raise BadInput("compare: no question has a verdict on both answers")
    numbered = [{str(i): pair[side] for i, pair in enumerate(scored)} for side in (0, 1)]
    outcomes = count_outcomes(*numbered)
    return Paired(
        first=before,
        second=after,
        gain=gain(before, after, outcomes),
        outcomes=outcomes,
        p=mcnemar(outcomes["fixed"], outcomes["broken"]),
        unscored=len(first) - len(scored),
    )


def _scored(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict is not Verdict.FAILED
