"""Two evaluations question by question: whose answers flipped, and is that more than chance (McNemar's exact test)?

Pure but for the reading of results. Called by the command `racro compare`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from racro.errors import BadInput
from racro.evaluation.heldout import Rate, rate
from racro.evaluation.outcomes import Accuracy, Outcome, gain, outcome
from racro.reports.training import Model
from racro.schema import Mode, Result, Verdict
from racro.storage import layout
from racro.storage.artifacts import read_shard
from racro.storage.files import opened


class Incomparable(BadInput):
    """Two runs without a question that both answered in a comparable way."""


class Arm(NamedTuple):
    """Who answered, and how."""

    benchmark: str
    mode: Mode
    reasoner: str | None


class Said(Model):
    """An answer to a question."""

    verdict: Verdict
    extracted: str | None


class Flip(Model):
    """A question that one of two evaluations got right and the other did not."""

    uid: str
    question: str
    gold: str
    first: Said
    second: Said


class Comparison(Model):
    """Two evaluations of the same questions of one benchmark."""

    first: Arm
    second: Arm
    first_accuracy: Rate
    second_accuracy: Rate
    gain: float
    """Second minus first."""
    gain_stderr: float
    """Of paired questions (`racro.evaluation.outcomes.gain`)."""
    outcomes: dict[Outcome, int]
    """`fixed`: only the second is right; `broken`: only the first."""
    p: float
    """McNemar's exact test, two-sided: chance of flips at least this lopsided if neither were better."""
    unscored: int
    """Questions of which one answer failed; not compared."""
    unpaired: int
    """Questions that only one of the two was asked."""
    flips: tuple[Flip, ...]


Answers = dict[Arm, dict[str, Result]]
"""By uid; of several answers to a question the first."""


def compare(first: Iterable[Result], second: Iterable[Result]) -> list[Comparison]:
    """A comparison for each pair of arms. Raises Incomparable.

    Arms pair by benchmark, mode and reasoner; where a benchmark has no such pair, the only arm of either run with the
    only one of the other, so that two reasoners compare, or two modes.
    """
    a, b = _answers(first), _answers(second)
    found = [comparison(x, a[x], y, b[y]) for x, y in _pairs(a, b) if a[x].keys() & b[y].keys()]
    if not found:
        named = (", ".join(" ".join(filter(None, arm)) for arm in arms) for arms in (a, b))
        raise Incomparable("nothing to compare: the first has {}, the second {}".format(*named))
    return found


def comparison(first: Arm, a: dict[str, Result], second: Arm, b: dict[str, Result]) -> Comparison:
    """Two arms, compared over the questions that both were asked and that neither failed at."""
    shared = [uid for uid in a if uid in b]
    scored = [uid for uid in shared if Verdict.FAILED not in (a[uid].verdict, b[uid].verdict)]
    outcomes: dict[Outcome, int] = {"fixed": 0, "broken": 0, "wrong": 0, "right": 0}
    flips = []
    for uid in scored:
        became = outcome(a[uid].verdict, b[uid].verdict)
        outcomes[became] += 1
        if became in ("fixed", "broken"):
            says = [Said(verdict=row.verdict, extracted=row.extracted) for row in (a[uid], b[uid])]
            flips.append(Flip(uid=uid, question=a[uid].question, gold=a[uid].answer, first=says[0], second=says[1]))
    rates = [rate([rows[uid].verdict is Verdict.CORRECT for uid in scored]) or NOTHING for rows in (a, b)]
    before, after = (Accuracy(accuracy=r.value, stderr=r.stderr, n=r.n) for r in rates)
    difference = gain(before, after, outcomes)
    return Comparison(
        first=first,
        second=second,
        first_accuracy=rates[0],
        second_accuracy=rates[1],
        gain=difference.value,
        gain_stderr=difference.stderr,
        outcomes=outcomes,
        p=mcnemar(outcomes["fixed"], outcomes["broken"]),
        unscored=len(shared) - len(scored),
        unpaired=len(a.keys() ^ b.keys()),
        flips=tuple(flips),
    )


NOTHING = Rate(value=0.0, stderr=0.0, n=0)


def mcnemar(fixed: int, broken: int) -> float:
    """Two-sided p of the exact test: under the null each flip goes either way with probability one half."""
    n = fixed + broken
    tail, ways = 0, 1  # of k flips among n; math.comb for each k would take seconds where thousands flipped
    for k in range(min(fixed, broken) + 1):
        tail += ways
        ways = ways * (n - k) // (k + 1)
    return min(1.0, 2 * tail / 2**n)


def read_results(root: str, name: str) -> Iterable[Result]:
    """The results of a finished evaluation. Raises Incomparable."""
    fs, folder = opened(layout.results(root, name))
    files = sorted(fs.glob(f"{folder}/part-*.parquet"))
    if not files or not fs.exists(opened(layout.summary(root, name))[1]):
        raise Incomparable(f"{name}: no finished evaluation under {root}; name a run of racro evaluate, or its --root")
    for file in files:
        yield from read_shard(fs.unstrip_protocol(file), Result)


def _answers(rows: Iterable[Result]) -> Answers:
    found: Answers = {}
    for row in rows:
        if row.sample == 0:
            slim = row.model_copy(
                update={"prompt": "", "caption_prompt": None, "tentative_prompt": None, "response": ""}
            )
            found.setdefault(Arm(row.benchmark, row.mode, row.reasoner), {})[row.uid] = slim
    return found


def _pairs(a: Answers, b: Answers) -> list[tuple[Arm, Arm]]:
    pairs: list[tuple[Arm, Arm]] = []
    for benchmark in dict.fromkeys(arm.benchmark for arm in a):
        ours, theirs = ([arm for arm in arms if arm.benchmark == benchmark] for arms in (a, b))
        same = [(arm, arm) for arm in ours if arm in theirs]
        pairs += same or (list(zip(ours, theirs, strict=True)) if len(ours) == len(theirs) == 1 else [])
    return pairs
