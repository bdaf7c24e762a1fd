"""What was written -> results, one graded row per answer; and results -> an entry of the table of an evaluation.

An entry is one captioner x reasoner x benchmark x mode, its metrics those of the benchmark's authors. Not the asking
(`racro.evaluation.modes`) and not the comparison of two runs (`racro.evaluation.compare`). Called by the stages grade
and aggregate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from racro.benchmarks.metrics import Graded, Scores, alike, simple_scores
from racro.data.golds import Gold
from racro.evaluation import heldout as evaluation
from racro.grading import grade
from racro.rewards.answer import counts
from racro.schema import Entry, Judgement, Label, Metric, Mode, Problem, Question, Result, Verdict, Writing

HELDOUT = "heldout"
"""Name of a recipe's held-out problems among the benchmarks."""


def heldout_question(problem: Problem) -> Question:
    """A held-out problem as a question of the benchmark that they make up."""
    labels = (Label(name="category", value=problem.category),)
    return Question(**dict(problem), benchmark=HELDOUT, family=None, part=None, labels=labels)


def results(
    questions: Sequence[Question],
    mode: Mode,
    captioner: str | None,
    reasoner: str | None,
    captions: Sequence[Writing],
    attempts: Sequence[Writing],
    answers: Sequence[Writing],
) -> Iterator[Result]:
    """The answers graded, question by question, sample by sample.

    `captions` and `attempts` hold one row per question, or none where the mode needs none; `answers` one or several.
    """
    said = {uid: list(rows) for uid, rows in groupby(answers, lambda writing: writing.uid)}
    captioned = {writing.uid: writing for writing in captions}
    attempted = {writing.uid: writing for writing in attempts}
    for question in questions:
        caption, attempt = captioned.get(question.uid), attempted.get(question.uid)
        for writing in said[question.uid]:
            judged = grade(writing.text, writing.finish_reason, Gold.of(question))
            yield Result(
                benchmark=question.benchmark,
                uid=question.uid,
                category=question.category,
                question=question.question,
                answer=question.answer,
                kind=question.kind,
                mode=mode,
                captioner=captioner,
                reasoner=reasoner,
                sample=writing.sample,
                caption_prompt=caption.prompt if caption else None,
                caption=caption.text if caption else None,
                tentative_prompt=attempt.prompt if attempt else None,
                tentative=attempt.text if attempt else None,
                prompt=writing.prompt,
                response=writing.text,
                tokens=writing.tokens,
                finish_reason=writing.finish_reason,
                extracted=judged.extracted,
                verdict=judged.verdict,
                error=writing.error,
            )


def entry(
    questions: Sequence[Question], rows: Sequence[Result], score: Callable[[Sequence[Graded]], Scores] = simple_scores
) -> Entry:
    """The entry of the results of one benchmark, mode and reasoner, in the order of the questions."""
    answers = [list(group) for _, group in groupby(rows, lambda row: row.uid)]
    graded = [
        Graded(question, group[0].verdict, tuple(row.extracted for row in group))
        for question, group in zip(questions, answers, strict=True)
    ]
    scores = score(graded)
    samples = max(map(len, answers))
    repeated = _repeated(questions, answers, samples) if samples > 1 else []
    first = rows[0]
    return Entry(
        benchmark=first.benchmark,
        mode=first.mode,
        captioner=first.captioner,
        reasoner=first.reasoner,
        questions=len(questions),
        samples=samples,
        metrics=(*scores.metrics, *repeated, *_oracle(judgements(questions, rows))),
        **counts(row.verdict for row in rows),
        families=scores.families,
        incomplete=scores.incomplete,
    )


# --- several answers to a question ------------------------------------------------------------------------------------


def pass_at(n: int, right: int, k: int) -> float:
    """Chance that k of n answers, drawn without replacement, hold one of the `right` ones (arXiv 2107.03374, eq. 1)."""
    return 1 - math.comb(n - right, k) / math.comb(n, k)


def majority(rows_K: Sequence[Result], gold: Gold) -> bool:
    """Is the answer that most of K rows give the right one? Of equally frequent ones, the answer that came first."""
    groups: list[list[Result]] = []
    for row in rows_K:
        if row.extracted is None:
            continue
        for group in groups:
            if alike(row.extracted, group[0].extracted, gold):
                group.append(row)
                break
        else:
            groups.append([row])
    return bool(groups) and max(groups, key=len)[0].verdict is Verdict.CORRECT


def _repeated(questions: Sequence[Question], answers: Sequence[Sequence[Result]], samples: int) -> list[Metric]:
    """pass@1, 2, 4 ... k, each over the questions with that many scored answers; and the majority's accuracy."""
    scored = [[row for row in group if row.verdict is not Verdict.FAILED] for group in answers]
    right = [sum(row.verdict is Verdict.CORRECT for row in group) for group in scored]
    metrics = []
    for k in sorted({2**i for i in range(samples.bit_length()) if 2**i <= samples} | {samples}):
        values = [pass_at(len(group), c, k) for group, c in zip(scored, right, strict=True) if len(group) >= k]
        metrics += mean(f"pass@{k}", values)
    voted = [majority(rows, Gold.of(q)) for q, rows in zip(questions, scored, strict=True) if rows]
    return metrics + mean(f"majority of {samples}", [float(vote) for vote in voted])


def mean(name: str, values: Sequence[float]) -> list[Metric]:
    """The mean over questions, its standard error from their variance; empty where there is none."""
    n = len(values)
    if n == 0:
        return []
    value = math.fsum(values) / n
    variance = math.fsum((v - value) ** 2 for v in values) / n
    return [Metric(name=name, value=value, stderr=math.sqrt(variance / n), n=n)]


# --- captions of known scenes -----------------------------------------------------------------------------------------


def judgements(questions: Sequence[Question], rows: Sequence[Result]) -> list[Judgement]:
    """First answers from a caption, the caption held against the scene where one is known; empty without captions."""
    first = [row for row in rows if row.sample == 0]
    if any(row.caption is None for row in first):
        return []
    return [
        evaluation.judgement(question, row.caption or "", row.error is None, row.response, row.verdict)
        for question, row in zip(questions, first, strict=True)
    ]


def _oracle(judged: Sequence[Judgement]) -> list[Metric]:
    found = evaluation.aggregate(judged)
    rates = {"truthful": found.truthful, "states what is asked": found.states_asked, "leaks": found.leaks}
    return [Metric(name=name, **rate.model_dump()) for name, rate in rates.items() if rate is not None]
