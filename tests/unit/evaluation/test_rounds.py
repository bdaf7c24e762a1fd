"""Rounds between caption and answer: what is refused or late costs what it must, and nothing else."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro.config import ScriptedReply
from racro.data.golds import Gold
from racro.engines.local.scripted import ScriptedEngine
from racro.engines.protocol import Sampling
from racro.evaluation import rounds
from racro.evaluation.examples import NoShots, captioned, draw
from racro.evaluation.modes import answer, in_order
from racro.evaluation.results import majority, results, winner_first
from racro.rewards.choosing import favourite
from racro.rollouts.looking import asked_of
from racro.schema import ModelOutput, Verdict
from tests.support.asked import NAME, PICTURE, question

SAMPLING = Sampling(1, 0.6, 0.95, 100, 60.0)
QUESTIONS = [question("a", "How high?", "3"), question("b", "How wide?", "4")]


def output(uid: str, text: str, **changes: object) -> ModelOutput:
    made = ModelOutput(uid=uid, sample=0, prompt="[]", text=text, tokens=1, finish_reason="stop", error=None)
    return made.model_copy(update=changes)


def says(when: str, *replies: str) -> ScriptedReply:
    return ScriptedReply(when=f"(?s){when}", replies=replies)


CAPTIONS = [output("a", "a bar"), output("b", "a box")]


@pytest.fixture
def images(tmp_path: Path) -> rounds.AskedOf:
    (tmp_path / NAME).write_bytes(PICTURE)
    return functools.partial(asked_of, images_base=str(tmp_path))


def test_a_sub_question_that_is_refused_is_left_out(images: rounds.AskedOf) -> None:
    mind = ScriptedEngine([says("How high", "Why?\nWhere?"), says("How wide", "Why?")])
    asked = rounds.ask_clues(QUESTIONS, CAPTIONS, 5, mind, SAMPLING, 0)
    found = rounds.answer_clues(QUESTIONS, images, asked, 5, ScriptedEngine([says("Where", "there")]), SAMPLING)
    assert [(row.uid, row.text, row.error) for row in found] == [
        ("a", "Question: Where?\nAnswer: there", None),
        ("b", "", None),
    ]
    last = ScriptedEngine([says("there", r"\boxed{3}"), says("a box\n\n### Question: How wide", r"\boxed{4}")])
    answers = list(answer("clues", QUESTIONS, CAPTIONS, found, last, SAMPLING, 0))
    graded = list(results(QUESTIONS, "clues", "c", "r", CAPTIONS, found, answers))
    assert [row.verdict for row in graded] == [Verdict.CORRECT] * 2


def test_without_a_caption_nobody_is_asked_and_the_question_fails(images: rounds.AskedOf) -> None:
    late = [output("a", "a b", finish_reason="deadline"), CAPTIONS[1]]
    mind = ScriptedEngine([says("How wide", "Why?")])  # refuses any other
    asked = rounds.ask_clues(QUESTIONS, late, 5, mind, SAMPLING, 0)
    assert [row.text for row in asked] == ["", "Why?"]
    found = rounds.answer_clues(QUESTIONS, images, asked, 5, ScriptedEngine([says("", "so")]), SAMPLING)
    answers = list(answer("clues", QUESTIONS, late, found, ScriptedEngine([says("", "4")]), SAMPLING, 0))
    assert [row.error for row in answers] == ["the captioner ran out of time", None]


def test_sub_questions_that_were_cut_in_the_middle_are_not_asked(images: rounds.AskedOf) -> None:
    asked = [output("a", "Where?\nWhy is the", finish_reason="length"), output("b", "What is", finish_reason="length")]
    found = rounds.answer_clues(QUESTIONS, images, asked, 5, ScriptedEngine([says("", "so")]), SAMPLING)
    assert [row.text for row in found] == ["Question: Where?\nAnswer: so", ""]


def test_a_second_caption_that_is_refused_fails_its_question(images: rounds.AskedOf) -> None:
    first = ScriptedEngine([says("How high", r"\boxed{3}"), says("How wide", r"\boxed{cannot be answered} it")])
    checked = list(answer("check", QUESTIONS, CAPTIONS, [], first, SAMPLING, 0))
    assert rounds.lacking(QUESTIONS, checked) == {"b": "it"}
    again = rounds.caption_again(QUESTIONS, images, checked, ScriptedEngine([]), SAMPLING)
    final = in_order(
        rounds.answer_again(QUESTIONS, CAPTIONS, again, checked, ScriptedEngine([]), SAMPLING, 0), QUESTIONS
    )
    graded = list(results(QUESTIONS, "check", "c", "r", CAPTIONS, again, final))
    assert [row.verdict for row in graded] == [Verdict.CORRECT, Verdict.FAILED]
    assert "no rule of the scripted engine" in (graded[1].error or "")


def test_with_several_samples_the_first_decides_whether_to_look_again(images: rounds.AskedOf) -> None:
    cannot = r"\boxed{cannot be answered} it"
    first = ScriptedEngine([says("How high", r"\boxed{3}", cannot), says("How wide", cannot, r"\boxed{4}")])
    twice = Sampling(2, 0.6, 0.95, 100, 60.0)
    checked = list(answer("check", QUESTIONS, CAPTIONS, [], first, twice, 0))
    eyes, mind = ScriptedEngine([says("missing: it", "now")]), ScriptedEngine([says("now", r"\boxed{4}", r"\boxed{5}")])
    again = rounds.caption_again(QUESTIONS, images, checked, eyes, SAMPLING)
    final = in_order(rounds.answer_again(QUESTIONS, CAPTIONS, again, checked, mind, twice, 0), QUESTIONS)
    assert [(row.uid, row.sample, row.text) for row in final] == [
        ("a", 0, r"\boxed{3}"),
        ("a", 1, cannot),
        ("b", 0, r"\boxed{4}"),
        ("b", 1, r"\boxed{5}"),
    ]


def test_a_question_whose_captions_are_refused_costs_the_others_no_vote(images: rounds.AskedOf) -> None:
    eyes = ScriptedEngine([says("How high", "one", "two", "three")])
    made = list(rounds.sample_captions(QUESTIONS, images, "p", eyes, Sampling(3, 1.0, 1.0, 100, 60.0), 0))
    rows = in_order((row for found, _ in made for row in found), QUESTIONS)
    assert [(row.uid, row.text) for row in rows] == [("a", "one"), ("a", "two"), ("a", "three"), ("b", "")]
    rollouts = [rollout for _, found in made for rollout in found]
    assert [(r.uid, r.sample, r.caption, len(r.completion_ids)) for r in rollouts][-1] == ("a", 2, "three", 6)
    best = list(rounds.favourites(rows, rollouts, [None, 0.5, 0.5]))
    assert [(row.uid, row.sample, row.text) for row in best] == [("a", 0, "two"), ("b", 0, "")]
    mind = ScriptedEngine([says("one", "no idea"), says("two", r"\boxed{3}"), says("three", r"\boxed{5}")])
    answers = list(answer("caption", QUESTIONS, rows, [], mind, SAMPLING, 0))
    graded = list(results(QUESTIONS, "vote", "c", "r", rows, [], answers))
    assert [(row.uid, row.sample, row.caption, row.verdict) for row in graded] == [
        ("a", 0, "two", Verdict.CORRECT),
        ("a", 1, "one", Verdict.UNPARSED),
        ("a", 2, "three", Verdict.WRONG),
        ("b", 0, "", Verdict.FAILED),
    ]


@given(
    st.lists(
        st.sampled_from([(r"\boxed{3}", "stop"), (r"\boxed{4}", "stop"), ("hm", "stop"), ("", "deadline")]),
        min_size=1,
        max_size=6,
    )
)
def test_the_first_result_of_a_vote_is_its_majority(said: list[tuple[str, str]]) -> None:
    answers = [output("a", text, sample=i, finish_reason=reason) for i, (text, reason) in enumerate(said)]
    captions = [output("a", f"caption {i}", sample=i) for i in range(len(said))]
    rows = list(results(QUESTIONS[:1], "vote", "c", "r", captions, [], answers))
    assert sorted((row.caption, row.response) for row in rows) == [(f"caption {i}", t) for i, (t, _) in enumerate(said)]
    texts = [text for text, _ in said]
    right, wrong = texts.count(r"\boxed{3}"), texts.count(r"\boxed{4}")
    wins = right > wrong or (right == wrong > 0 and texts.index(r"\boxed{3}") < texts.index(r"\boxed{4}"))
    assert (rows[0].verdict is Verdict.CORRECT) is wins is majority(rows, Gold.of(QUESTIONS[0]))
    assert (rows[0].verdict is Verdict.FAILED) is all(reason == "deadline" for _, reason in said)
    assert winner_first(rows, Gold.of(QUESTIONS[0])) == rows, "once more changes nothing"


@given(st.lists(st.one_of(st.none(), st.integers(-3, 3)), min_size=1))
def test_the_favourite_is_the_first_of_the_largest(values: list[float | None]) -> None:
    known = [value for value in values if value is not None]
    assert favourite(values) == (values.index(max(known)) if known else 0)


def test_solved_examples(images: rounds.AskedOf, tmp_path: Path) -> None:
    problems = [question(str(i), f"How high, {i}?", str(i)) for i in range(9)]
    assert draw(problems, 3, 7) == draw(problems, 9, 7)[:3]
    assert {problem.uid for problem in draw(problems, 20, 7)} == {str(i) for i in range(9)}
    assert draw(problems, 9, 7) != draw(problems, 9, 8)
    engine = ScriptedEngine([says("high, [0-4]", "<think>hm</think>a bar")])
    shots = captioned(problems, str(tmp_path), engine, 100, 60.0)
    assert [(shot.question, shot.caption, shot.answer) for shot in shots] == [
        (f"How high, {i}?", "a bar", str(i)) for i in range(5)
    ]
    with pytest.raises(NoShots, match="mode shots: not one of 9 training problems got a finished caption; raise"):
        captioned(problems, str(tmp_path), ScriptedEngine([]), 100, 60.0)
