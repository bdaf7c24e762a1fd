"""An evaluation's rates come with standard error and n, and failures are in none of them."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro import config
from racro.config import ScriptedReply
from racro.embedded import world
from racro.embedded.sentences import NUMBERS, state
from racro.embedded.world import Fact
from racro.engines.local.scripted import ScriptedEngine
from racro.engines.protocol import Generation, Refusal, Request, Sampling
from racro.evaluation.heldout import aggregate, evaluate, rate
from racro.schema import Judgement, Problem, Verdict

READERS = [
    ScriptedReply(when=rf"image: [a-z]+ {number}\.", replies=(rf"So it is \boxed{{{height}}}.",))
    for height, number in enumerate(NUMBERS, 1)
]
"""A reasoner that reads the height out of a caption of one fact."""
UNKNOWN = ScriptedReply(replies=(r"\boxed{unknown}",))


def value_problems(count: int) -> list[Problem]:
    """Problems that ask for the height of one bar; without images, which a scripted captioner does not miss."""
    bars = [p for p in world.generate("heldout", 0, 20 * count) if p.category == "value"][:count]
    return [
        Problem(
            uid=p.uid,
            question=p.question,
            answer=p.answer,
            kind=p.kind,
            category=p.category,
            choices=(),
            images=(),
            scene=p.scene_json(),
        )
        for p in bars
    ]


def judge(problems: list[Problem], captioner: ScriptedEngine, deadline: float = 60.0) -> list[Judgement]:
    how = config.EvaluationSettings(temperature=0.6, top_p=0.95)
    return list(evaluate(problems, ".", captioner, ScriptedEngine([*READERS, UNKNOWN]), 100, 100, how, 0, deadline))


def test_a_caption_is_judged_by_its_answer_and_by_its_scene() -> None:
    problem = value_problems(1)[0]
    colour = problem.question.split()[-2]
    for height, said in (
        (int(problem.answer), (Verdict.CORRECT, 1, 1, True, False)),
        (int(problem.answer) % 8 + 1, (Verdict.WRONG, 1, 0, False, False)),
    ):
        caption = state(Fact(0, colour, height), images=1)
        [j] = judge([problem], ScriptedEngine([ScriptedReply(replies=(caption,))]))
        assert (j.verdict, j.facts_stated, j.facts_true, j.states_asked, j.leaks) == said
    [leak] = judge([problem], ScriptedEngine([ScriptedReply(replies=(f"The answer is {problem.answer}.",))]))
    assert leak.leaks
    [real] = judge([problem.model_copy(update={"scene": None})], ScriptedEngine([UNKNOWN]))
    assert (real.facts_stated, real.facts_true, real.states_asked, real.leaks) == (None,) * 4


def test_captions_are_greedy_and_answers_sampled_as_the_recipe_says(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Sampling] = []
    original = ScriptedEngine.generate

    def watched(self: ScriptedEngine, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        asked = list(requests)
        seen.extend({request.sampling for request in asked})
        return original(self, asked)

    monkeypatch.setattr(ScriptedEngine, "generate", watched)
    judge(value_problems(2), ScriptedEngine([UNKNOWN]))
    assert [(s.n, s.temperature, s.top_p, s.max_tokens) for s in seen] == [(1, 0.0, 1.0, 100), (1, 0.6, 0.95, 100)]


def test_what_did_not_come_in_time_is_counted_apart() -> None:
    metrics = aggregate(judge(value_problems(3), ScriptedEngine([ScriptedReply(replies=("x",), delay=9)]), 0.05))
    assert metrics.accuracy is None
    assert (metrics.unscored, metrics.verdicts["failed"]) == (3, 3)
    assert metrics.states_asked is None


def test_what_an_engine_refuses_is_failed_and_reported() -> None:
    problems = value_problems(3)
    caption = ScriptedReply(when=re.escape(problems[0].question), replies=("The chart.",))
    refusals: list[tuple[str, str]] = []
    rows = list(
        evaluate(
            problems,
            ".",
            ScriptedEngine([caption]),
            ScriptedEngine([UNKNOWN]),
            *(100, 100, config.EvaluationSettings(), 0, 60.0),
            refused=lambda problem, reason: refusals.append((problem.uid, reason)),
        )
    )
    other = [problem for problem in problems if problem.question != problems[0].question]
    assert other
    assert [row.uid for row in rows if row.verdict is Verdict.FAILED] == [problem.uid for problem in other]
    assert [uid for uid, _ in refusals] == [problem.uid for problem in other]
    assert all("no rule" in reason for _, reason in refusals)


# --- metrics ----------------------------------------------------------------------------------------------------------


def judgement(verdict: Verdict, category: str = "c", stated: int | None = None, true: int | None = None) -> Judgement:
    return Judgement(
        uid="u",
        category=category,
        question="q",
        answer="a",
        caption="c",
        response="r",
        verdict=verdict,
        facts_stated=stated,
        facts_true=true,
        states_asked=None if stated is None else true == stated,
        leaks=None if stated is None else False,
    )


def test_metrics_by_hand() -> None:
    rows = [
        judgement(Verdict.CORRECT, "b", 2, 2),
        judgement(Verdict.WRONG, "a", 2, 1),
        judgement(Verdict.UNPARSED, "b", 0, 0),
        judgement(Verdict.TRUNCATED, "b"),
        judgement(Verdict.FAILED, "z"),
    ]
    metrics = aggregate(rows)
    assert metrics.accuracy is not None
    assert (metrics.accuracy.value, metrics.accuracy.n) == (0.25, 4)
    assert metrics.accuracy.stderr == pytest.approx((0.25 * 0.75 / 4) ** 0.5)
    assert {name: (r.value, r.n) for name, r in metrics.by_category.items()} == {"a": (0.0, 1), "b": (1 / 3, 3)}
    assert metrics.truthful is not None
    assert (metrics.truthful.value, metrics.truthful.n) == (0.75, 4)
    assert metrics.states_asked is not None
    assert metrics.states_asked.n == 3
    assert metrics.unscored == 1


def test_nothing_to_count_is_none_not_zero() -> None:
    metrics = aggregate([])
    assert (metrics.accuracy, metrics.truthful, metrics.states_asked, metrics.leaks) == (None,) * 4
    assert metrics.by_category == {}


@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_with_one_fact_per_caption_truthfulness_is_a_plain_rate(cases: list[bool]) -> None:
    truthful = aggregate([judgement(Verdict.CORRECT, stated=1, true=int(case)) for case in cases]).truthful
    plain = rate(cases)
    assert truthful is not None
    assert plain is not None
    assert (truthful.value, truthful.n) == (plain.value, plain.n)
    assert truthful.stderr == pytest.approx(plain.stderr)
    assert plain.stderr == pytest.approx(statistics.pstdev(cases) / len(cases) ** 0.5)


def test_facts_of_one_caption_are_not_independent() -> None:
    """Ten captions of four facts, each all true or all false, say as little as ten facts."""
    rows = [judgement(Verdict.CORRECT, stated=4, true=4 * (i % 2)) for i in range(10)]
    truthful, plain = aggregate(rows).truthful, rate([bool(i % 2) for i in range(10)])
    assert truthful is not None
    assert plain is not None
    assert truthful.stderr == pytest.approx(plain.stderr)
