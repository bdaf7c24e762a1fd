"""pass@k and majority against counting, and an entry that counts every verdict."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racro.data.golds import Gold
from racro.evaluation.results import entry, majority, mean, pass_at, results
from racro.schema import ModelOutput, Question, Result, Share, Verdict
from tests.support.asked import question

VERDICTS = list(Verdict)
SAID = {
    Verdict.CORRECT: (r"\boxed{3}", "stop"),
    Verdict.WRONG: (r"\boxed{4}", "stop"),
    Verdict.UNPARSED: ("hm", "stop"),
    Verdict.TRUNCATED: ("so", "length"),
    Verdict.FAILED: ("", "deadline"),
}


def graded(verdicts: list[list[Verdict]]) -> tuple[list[Question], list[Result]]:
    """Questions whose answers get these verdicts."""
    questions = [question(str(i), "How high?", "3") for i in range(len(verdicts))]
    answers = [
        ModelOutput(uid=str(i), sample=s, prompt="[]", text=text, tokens=1, finish_reason=finish, error=None)  # type: ignore[arg-type]
        for i, row in enumerate(verdicts)
        for s, (text, finish) in enumerate(SAID[verdict] for verdict in row)
    ]
    return questions, list(results(questions, "text", None, "r", [], [], answers))


@given(st.lists(st.booleans(), min_size=1, max_size=7), st.data())
def test_pass_at_k_is_the_share_of_draws_with_a_right_answer(right: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(right)))
    draws = list(itertools.combinations(right, k))
    assert pass_at(len(right), sum(right), k) == pytest.approx(statistics.fmean(any(draw) for draw in draws))


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(VERDICTS), min_size=4, max_size=4), min_size=1, max_size=8))
def test_an_entry_counts_every_verdict_and_averages_over_questions(verdicts: list[list[Verdict]]) -> None:
    made = entry(*graded(verdicts))
    flat = [verdict for row in verdicts for verdict in row]
    assert {v.value: getattr(made, v) for v in Verdict} == {v.value: flat.count(v) for v in Verdict}
    metrics = {metric.name: metric for metric in made.metrics}
    scored = [[v for v in row if v is not Verdict.FAILED] for row in verdicts]
    shares = [row.count(Verdict.CORRECT) / len(row) for row in scored if row]
    assert ("pass@1" in metrics) is bool(shares)
    if shares:
        assert metrics["pass@1"].value == pytest.approx(statistics.fmean(shares))
        spread = statistics.pstdev(shares) / math.sqrt(len(shares))
        assert metrics["pass@1"].stderr == pytest.approx(spread) if spread > 1e-9 else metrics["pass@1"].stderr > 0
        assert metrics["pass@1"].n == len(shares)
    whole = [row for row in scored if len(row) == 4]
    if whole:
        assert metrics["pass@4"].value == pytest.approx(statistics.fmean(Verdict.CORRECT in row for row in whole))
        assert metrics["pass@1"].value <= 1.0 and {"pass@2"} <= metrics.keys()
    first = [row[0] for row in verdicts if row[0] is not Verdict.FAILED]
    assert ("accuracy" in metrics) is bool(first)
    if first:
        assert metrics["accuracy"].value == pytest.approx(statistics.fmean(v is Verdict.CORRECT for v in first))


@pytest.mark.parametrize(
    ("said", "right"),
    [
        (["3", "4", "3.0"], True),
        (["4", "3", "4"], False),
        (["4", "x = 4", "3", "3"], False),  # a draw: the answer that came first
        (["3", "4"], True),
        ([None, None, "3"], True),  # no answer is no vote
        ([None, None], False),
        (["unknown", "unknown", "3"], True),  # "unknown" has a vote only where nothing else is answered
        (["cannot be determined", "4", "3", "3"], True),
    ],
)
def test_the_majority_is_counted_over_answers_that_mean_the_same(said: list[str | None], right: bool) -> None:
    gold = Gold("3", "integer")
    _, rows = graded([[Verdict.UNPARSED if s is None else Verdict.WRONG for s in said]])
    votes = [
        row.model_copy(update={"extracted": s, "verdict": Verdict.CORRECT if s in ("3", "3.0") else row.verdict})
        for row, s in zip(rows, said, strict=True)
    ]
    assert majority(votes, gold) is right


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_the_mean_of_yes_and_no_is_a_plain_share(values: list[bool]) -> None:
    [metric], share = mean("x", [float(value) for value in values]), Share.of(values)
    assert share is not None
    assert (metric.value, metric.stderr, metric.n) == (pytest.approx(share.value), pytest.approx(share.stderr), share.n)
