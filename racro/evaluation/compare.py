"""Two evaluations question by question: which answers flipped, and is that more than chance (McNemar's exact test)?

Called by the command `racro compare`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from racro.errors import BadInput
from racro.evaluation.outcomes import Gain, Outcome, count_outcomes, gain, outcome
from racro.schema import Frozen, Mode, Result, Share, Verdict
from racro.storage import layout
from racro.storage.artifacts import read_shard
from racro.storage.files import exists, listing


class Incomparable(BadInput):
    """Two runs that have no answered question in common."""


class Arm(NamedTuple):
    """Who answered, and how."""

    benchmark: str
    mode: Mode
    reasoner: str | None


class Said(Frozen):
    """An answer to a question."""

    verdict: Verdict
    extracted: str | None


class Flip(Frozen):
    """A question that one of two evaluations got right and the other did not."""

    uid: str
    question: str
    gold: str
    first: Said
    second: Said


class Comparison(Frozen):
    """Two evaluations of the same questions of one benchmark."""

    first: Arm
    second: Arm
    first_accuracy: Share | None
    """None where no question could be compared."""
    second_accuracy: Share | None
    gain: Gain | None
    """Second minus first."""
    outcomes: dict[Outcome, int]
    """`fixed`: only the second is right; `broken`: only the first."""
    p: float
    """McNemar's exact test, two-sided: chance of flips at least this one-sided if both were equally good."""
    unscored: int
    """Questions of which one answer failed; not compared."""
    unpaired: int
    """Questions that only one of the two was asked."""
    flips: tuple[Flip, ...]


Answers = dict[Arm, dict[str, Result]]
"""By uid; of several answers to a question the first."""


def compare(first: Iterable[Result], second: Iterable[Result]) -> list[Comparison]:
    """A comparison for each pair of arms. Raises Incomparable.

    Arms pair by benchmark, mode and reasoner. Where a benchmark has no such pair and each run has a single arm, these
    two are compared: two reasoners, or two modes.
    """
    a, b = _answers(first), _answers(second)
    found = [comparison(x, a[x], y, b[y]) for x, y in _pairs(a, b) if a[x].keys() & b[y].keys()]
    if not found:
        named = (", ".join(" ".join(filter(None, arm)) for arm in arms) for arms in (a, b))
        raise Incomparable("nothing to compare: the first has {}, the second {}".format(*named))
    return found


def comparison(first: Arm, a: dict[str, Result], second: Arm, b: dict[str, Result]) -> Comparison:
    """Two arms, compared over the questions that both were asked and of which no answer failed."""
    shared = [uid for uid in a if uid in b]
    scored = [uid for uid in shared if Verdict.FAILED not in (a[uid].verdict, b[uid].verdict)]
    outcomes = count_outcomes(*({uid: rows[uid].verdict for uid in scored} for rows in (a, b)))
    flips = []
    for uid in scored:
        if outcome(a[uid].verdict, b[uid].verdict) in ("fixed", "broken"):
            says = [Said(verdict=row.verdict, extracted=row.extracted) for row in (a[uid], b[uid])]
            flips.append(Flip(uid=uid, question=a[uid].question, gold=a[uid].answer, first=says[0], second=says[1]))
    before, after = (Share.of(rows[uid].verdict is Verdict.CORRECT for uid in scored) for rows in (a, b))
    return Comparison(
        first=first,
        second=second,
        first_accuracy=before,
        second_accuracy=after,
        gain=gain(before, after, outcomes) if before and after else None,
        outcomes=outcomes,
        p=mcnemar(outcomes["fixed"], outcomes["broken"]),
        unscored=len(shared) - len(scored),
        unpaired=len(a.keys() ^ b.keys()),
        flips=tuple(flips),
    )


def mcnemar(fixed: int, broken: int) -> float:
    """Two-sided p of the exact test: under the null hypothesis each flip goes either way with probability 1/2."""
    n = fixed + broken
    tail, ways = 0, 1  # of k flips among n; math.comb for each k would take seconds where thousands flipped
    for k in range(min(fixed, broken) + 1):
        tail += ways
        ways = ways * (n - k) // (k + 1)
    return min(1.0, 2 * tail / 2**n)


def read_results(root: str, name: str) -> Iterable[Result]:
    """The results of a finished evaluation. Raises Incomparable."""
    files = [uri for uri in listing(layout.results(root, name)) if uri.endswith(".parquet")]
    if not files or not exists(layout.summary(root, name)):
        raise Incomparable(f"{name}: no finished evaluation under {root}; name a run of racro evaluate, or its --root")
    for file in files:
        yield from read_shard(file, Result)


def _answers(rows: Iterable[Result]) -> Answers:
    found: Answers = {}
    for row in rows:
        if row.sample == 0:
            slim = row.model_copy(update={"prompt": "", "caption_prompt": None, "attempt_prompt": None, "response": ""})
            found.setdefault(Arm(row.benchmark, row.mode, row.reasoner), {})[row.uid] = slim
    return found


def _pairs(a: Answers, b: Answers) -> list[tuple[Arm, Arm]]:
    pairs: list[tuple[Arm, Arm]] = []
    for benchmark in dict.fromkeys(arm.benchmark for arm in a):
        ours, theirs = ([arm for arm in arms if arm.benchmark == benchmark] for arms in (a, b))
        same = [(arm, arm) for arm in ours if arm in theirs]
        pairs += same or (list(zip(ours, theirs, strict=True)) if len(ours) == len(theirs) == 1 else [])
    return pairs
