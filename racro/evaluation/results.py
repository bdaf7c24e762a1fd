"""Model outputs -> results, one graded row per answer; and results -> an entry of the table of an evaluation.

An entry is one captioner x reasoner x benchmark x mode, with the metrics of the benchmark's authors. Not the asking
(`racro.evaluation.modes`) and not the comparison of two runs (`racro.evaluation.compare`). Called by the stages grade
and aggregate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from racro.benchmarks.metrics import Graded, Scores, alike, simple_scores
from racro.data.golds import Gold
from racro.evaluation.scenes import caption_metrics
from racro.grading import grade
from racro.grading.abstaining import abstains
from racro.rewards.answer import counts
from racro.rollouts.thoughts import spoken
from racro.rollouts.votes import elect
from racro.schema import Entry, Metric, Mode, ModelOutput, Question, Result, Verdict
from racro.schema.shares import standard_error


class NothingEvaluated(RuntimeError):
    """Not one answer of an evaluation says something about the models."""


def results(
    questions: Sequence[Question],
    mode: Mode,
    captioner: str | None,
    reasoner: str | None,
    captions: Sequence[ModelOutput],
    attempts: Sequence[ModelOutput],
    answers: Sequence[ModelOutput],
) -> Iterator[Result]:
    """The answers graded, question by question, sample by sample.

    `captions` and `attempts` hold one row per question, or none where the mode needs none; `answers` one or several.
    Mode `vote` has one answer from each of several captions, and the first result is the one that wins.
    """
    answered = {uid: list(rows) for uid, rows in groupby(answers, lambda output: output.uid)}
    captioned = {uid: list(rows) for uid, rows in groupby(captions, lambda output: output.uid)}
    attempted = {output.uid: output for output in attempts}
    for question in questions:
        found, attempt = captioned.get(question.uid, []), attempted.get(question.uid)
        rows = []
        for output in answered[question.uid]:
            caption = (found[output.sample] if len(found) > 1 else found[0]) if found else None
            judged = grade(output.text, output.finish_reason, Gold.of(question))
            row = Result(
                benchmark=question.benchmark,
                uid=question.uid,
                category=question.category,
                question=question.question,
                answer=question.answer,
                kind=question.kind,
                mode=mode,
                captioner=captioner,
                reasoner=reasoner,
                sample=output.sample,
                caption_prompt=caption.prompt if caption else None,
                caption=spoken(caption.text) if caption else None,
                attempt_prompt=attempt.prompt if attempt else None,
                attempt=spoken(attempt.text) if attempt else None,
                prompt=output.prompt,
                response=output.text,
                tokens=output.tokens,
                finish_reason=output.finish_reason,
                extracted=judged.extracted,
                verdict=judged.verdict,
                error=output.error,
            )
            rows.append(row)
        yield from winner_first(rows, Gold.of(question)) if mode == "vote" else rows


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
        metrics=(*scores.metrics, *repeated, *caption_metrics(_captioned(questions, answers))),
        **counts(row.verdict for row in rows),
        families=scores.families,
        incomplete=scores.incomplete,
    )


def _captioned(questions: Sequence[Question], answers: Sequence[Sequence[Result]]) -> Iterator[tuple[Question, str]]:
    """Questions with their captions, where the caption was finished and the reasoner could be asked."""
    for question, group in zip(questions, answers, strict=True):
        if group[0].caption is not None and group[0].error is None:
            yield question, group[0].caption


# --- several answers to a question ------------------------------------------------------------------------------------


def pass_at(n: int, right: int, k: int) -> float:
    """Chance that k of n answers, drawn without replacement, contain a right one (arXiv 2107.03374, eq. 1).

    `right`: how many of the n are right.
    """
    return 1 - math.comb(n - right, k) / math.comb(n, k)


def elected(rows_K: Sequence[Result], gold: Gold) -> Result | None:
    """The first row with the most frequent answer among K rows, and the first of equally frequent ones.

    Failed rows have no vote, and "unknown" has one only where no row has a real answer. None if no row has an answer.
    """
    votes = [row.extracted if row.verdict is not Verdict.FAILED else None for row in rows_K]
    number = elect(
        votes,
        lambda one, other: alike(one, other, gold),
        lambda answer: abstains(answer, gold.question, gold.choices),
    )
    return None if number is None else rows_K[number]


def majority(rows_K: Sequence[Result], gold: Gold) -> bool:
    """Is the most frequent answer among K rows right?"""
    found = elected(rows_K, gold)
    return found is not None and found.verdict is Verdict.CORRECT


def winner_first(rows_K: Sequence[Result], gold: Gold) -> list[Result]:
    """The rows numbered anew, the elected one first: what is counted once per question counts the first.

    Without an answer, the first row that did not fail wins, if there is one.
    """
    scored = [row for row in rows_K if row.verdict is not Verdict.FAILED]
    first = elected(rows_K, gold) or (scored or list(rows_K))[0]
    order = [first, *(row for row in rows_K if row is not first)]
    return [row.model_copy(update={"sample": number}) for number, row in enumerate(order)]


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
    """The mean over questions, with the standard error from their variance; empty without any value."""
    n = len(values)
    if n == 0:
        return []
    value = math.fsum(values) / n
    variance = math.fsum((v - value) ** 2 for v in values) / n
    stderr = math.sqrt(variance / n) if max(values) > min(values) else standard_error(value, n)
    return [Metric(name=name, value=value, stderr=stderr, n=n)]
