"""Captions are held against the scenes behind their images; facts of one caption are not independent."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro.config import ScriptedReply
from racro.embedded import world
from racro.embedded.sentences import NUMBERS, state
from racro.embedded.world import Fact
from racro.engines.local.scripted import ScriptedEngine
from racro.engines.protocol import Sampling
from racro.evaluation.heldout import heldout_question, score_of
from racro.evaluation.modes import answer, captioner_outputs, in_order
from racro.evaluation.results import entry, results
from racro.evaluation.scenes import caption_metrics, truthful
from racro.prompts import caption_messages
from racro.schema import Entry, Problem, Question, Share

READERS = [
    ScriptedReply(when=rf"image: [a-z]+ {number}\.", replies=(rf"So it is \boxed{{{height}}}.",))
    for height, number in enumerate(NUMBERS, 1)
]
"""A reasoner that reads the height out of a caption of one fact."""
UNKNOWN = ScriptedReply(replies=(r"\boxed{unknown}",))


def value_questions(count: int) -> list[Question]:
    """Held-out problems that ask for the height of one bar, without images: a scripted captioner needs none."""
    bars = [p for p in world.generate("heldout", 0, 20 * count) if p.category == "value"][:count]
    return [
        heldout_question(
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
        )
        for p in bars
    ]


def evaluated(questions: list[Question], caption: ScriptedReply, deadline: float = 60.0) -> Entry:
    """The entry of the questions, answered from captions by a reasoner that reads them."""
    looking, reading = ScriptedEngine([caption]), ScriptedEngine([*READERS, UNKNOWN])
    captions = in_order(captioner_outputs(questions, ".", looking, caption_messages, 100, deadline), questions)
    answers = list(answer("caption", questions, captions, [], reading, Sampling(1, 0.6, 0.95, 100, deadline), 0))
    return entry(questions, list(results(questions, "caption", "c", "r", captions, [], answers)))


def test_a_caption_is_judged_by_its_answer_and_by_its_scene() -> None:
    question = value_questions(1)[0]
    colour = question.question.split()[-2]
    for height, said in (
        (int(question.answer), (1.0, 1.0, 1.0, 0.0)),
        (int(question.answer) % 8 + 1, (0.0, 0.0, 0.0, 0.0)),
    ):
        caption = state(Fact(0, colour, height), images=1)
        score = score_of(evaluated([question], ScriptedReply(replies=(caption,))))
        assert (score.accuracy, score.truthful, score.states_asked, score.leaks) == said
    leaking = evaluated([question], ScriptedReply(replies=(f"The answer is {question.answer}.",)))
    assert score_of(leaking).leaks == 1.0
    real = score_of(evaluated([question.model_copy(update={"scene": None})], UNKNOWN))
    assert (real.truthful, real.states_asked, real.leaks) == (None,) * 3


def test_captions_that_did_not_come_in_time_are_in_no_metric() -> None:
    made = evaluated(value_questions(3), ScriptedReply(replies=("x",), delay=9), 0.05)
    assert made.metrics == ()
    assert (made.failed, made.headline) == (3, None)


def test_metrics_by_hand() -> None:
    one, two = value_questions(2)
    right, wrong = (
        state(Fact(0, question.question.split()[-2], height), images=1)
        for question, height in ((one, int(one.answer)), (two, int(two.answer) % 8 + 1))
    )
    found = {m.name: m for m in caption_metrics([(one, right), (two, wrong), (two, "nothing at all")])}
    assert (found["truthful"].value, found["truthful"].n) == (0.5, 2), "over facts"
    assert (found["states what is asked"].value, found["states what is asked"].n) == (pytest.approx(1 / 3), 3)
    assert (found["leaks"].value, found["leaks"].n) == (0.0, 3)


def test_nothing_to_count_has_no_metric_not_zero() -> None:
    assert caption_metrics([]) == []
    assert truthful([]) is None
    assert [m.name for m in caption_metrics([(value_questions(1)[0], "nothing at all")])] == [
        "states what is asked",
        "leaks",
    ]


@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_with_one_fact_per_caption_truthfulness_is_a_plain_share(cases: list[bool]) -> None:
    found, plain = truthful([(1, int(case)) for case in cases]), Share.of(cases)
    assert found is not None and plain is not None
    assert (found.value, found.n) == (plain.value, plain.n)
    assert found.stderr == pytest.approx(plain.stderr)
    if len(set(cases)) == 2:
        assert plain.stderr == pytest.approx(statistics.pstdev(cases) / len(cases) ** 0.5)


def test_facts_of_one_caption_are_not_independent() -> None:
    """Ten captions of four facts, each all true or all false, say as little as ten facts."""
    found, plain = truthful([(4, 4 * (i % 2)) for i in range(10)]), Share.of(bool(i % 2) for i in range(10))
    assert found is not None and plain is not None
    assert found.stderr == pytest.approx(plain.stderr)
    assert found.interval == pytest.approx(plain.interval)
    sure, few = truthful([(4, 4)] * 10), Share.of([True] * 10)
    assert sure is not None and few is not None
    assert sure.interval == pytest.approx(few.interval)
