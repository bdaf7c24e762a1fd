"""Questions to a judge that sees the caption alone: the same for a group, and a share of right letters."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from racro import config
from racro.config import ScriptedReply
from racro.embedded import world
from racro.embedded.checks import quiz
from racro.embedded.sentences import state
from racro.engines.protocol import Sampling
from racro.prompts import plain_text
from racro.rewards.mcq import Mcq, letter, rounds
from racro.rewards.protocol import Case, Value
from racro.schema import ChoiceQuestion
from tests.support.cases import group, problem, rollout
from tests.support.judges import Listening, means

QUESTIONS = (
    ChoiceQuestion(question="Which colour?", options=("red", "green", "blue"), answer=0),
    ChoiceQuestion(question="How high?", options=("one", "two", "three", "four"), answer=2),
)


class Reader(Listening):
    """A judge that chooses the option that stands in the caption, and the last one if none does."""

    def __init__(self) -> None:
        super().__init__(ScriptedReply(replies=("?",)))

    def generate(self, requests: object) -> object:  # type: ignore[override]
        """Its letters."""
        for request in requests:  # type: ignore[attr-defined]
            self.requests.append(request)
            text = plain_text(request.prompt.messages[-1])
            caption = text.split("### Caption\n")[1].split("\n\n### Question")[0]
            options = re.findall(r"^([A-Z])\. (.*)$", text, re.MULTILINE)
            named = next((place for place, option in options[:-1] if option in caption), options[-1][0])
            yield from Listening(ScriptedReply(replies=(f" {named}.",))).generate([request])


def values(cases: Sequence[Case], judge: Listening, rounds: int = 2, **how: float) -> list[Value]:
    return list(Mcq(config.McqReward(rounds=rounds)).score(cases, means({"judge": judge}, **how)))


def test_the_value_is_the_share_of_questions_that_the_caption_answers() -> None:
    judge = Reader()
    found = values(group(["A red bar, three high.", "Something red.", "A blue one.", "A chart."], mcq=QUESTIONS), judge)
    assert [v.value for v in found] == [1.0, 0.5, 0.0, 0.0]
    assert found[1].detail == "1 of 2 right"


def test_all_captions_of_a_problem_get_the_same_questions_with_the_same_shuffles() -> None:
    judge = Reader()
    values(group(["one", "two", "one"], mcq=QUESTIONS), judge, rounds=5)
    assert len(judge.requests) == 10, "equal captions are judged once"
    asked = {caption: [t for t in judge.texts if f"Caption\n{caption}\n" in t] for caption in ("one", "two")}
    assert [t.replace("Caption\none", "") for t in asked["one"]] == [
        t.replace("Caption\ntwo", "") for t in asked["two"]
    ]
    assert all(t.rstrip().endswith("It cannot be answered from the caption.") for t in judge.texts), "never shuffled"


def test_questions_are_drawn_without_replacement_and_shuffled_anew_when_they_come_again() -> None:
    asked = [problem(str(uid), mcq=QUESTIONS * 2) for uid in range(40)]
    drawn = [rounds(4, 10, one, 0, 0) for one in asked]
    for own in drawn:
        numbers = [r.number for r in own]
        assert sorted(numbers[:4]) == sorted(numbers[4:8]) == [0, 1, 2, 3] and len(set(numbers[8:])) == 2
        assert all(sorted(r.order) == list(range(len(QUESTIONS[r.number % 2].options))) for r in own)
    first = [next(r.order for r in own if r.number == 0) for own in drawn]
    assert len(set(first)) == 6, "every order of three options comes up"
    assert rounds(4, 10, asked[0], 0, 0) == drawn[0] != rounds(4, 10, asked[0], 0, 1)
    assert rounds(0, 3, problem(), 0, 0) == []


def test_a_judge_is_asked_as_capRL_asks() -> None:
    judge = Reader()
    values(group(["red"], mcq=QUESTIONS), judge)
    assert judge.requests[0].sampling == Sampling(n=1, temperature=0.6, max_tokens=10, deadline=60.0)
    assert judge.requests[0].prompt.lead == "The answer is"
    values(group(["red"], mcq=QUESTIONS), judge, temperature=0.0, max_tokens=500)
    assert (judge.requests[-1].sampling.temperature, judge.requests[-1].sampling.max_tokens) == (0.0, 500)


@pytest.mark.parametrize(
    ("said", "place"),
    [
        (" B", 1),
        (" B.", 1),
        (" (C) blue", 2),
        ("**A**", 0),
        ("a)", 0),
        ("The answer is B.", 1),
        ("\n\nD\nbecause", 3),
        ("Option C: blue", 2),
        (" clearly B, as the text says", 1),
        (" A red bar is what I see", None),
        (" A because the caption says so", 0),
        ("\u212a.", None),
        ("\u0130.", None),
        ("I cannot tell", None),
        (" G.", None),
        ("", None),
    ],
)
def test_the_letter_of_an_answer(said: str, place: int | None) -> None:
    assert letter(said, 4) == place


def test_a_caption_without_any_letter_is_unscored_and_one_without_some_is_not() -> None:
    judge = Listening(
        ScriptedReply(when="nonsense", replies=("who knows",)),
        ScriptedReply(when="(?s)half.*colour", replies=("who knows",)),
        ScriptedReply(when=r"(?s)half.*(\w)\. three", replies=(r"\1",)),
        ScriptedReply(when="slow", replies=("A",), delay=3600),
    )
    captions = [rollout("nonsense"), rollout("half", sample=1), rollout("slow", sample=2), rollout("", "deadline", 3)]
    found = values(group(captions, mcq=QUESTIONS), judge, deadline=0.1)
    assert [(v.value, v.fault) for v in found] == [(None, "unreadable"), (1.0, ""), (None, "late"), (None, "")]
    assert found[1].detail == "1 of 1 right, 1 without an answer"
    assert [v.fault for v in values(group(["A caption."]), judge)] == ["no_questions"]


def test_in_the_embedded_world_the_scene_answers_and_a_reading_judge_agrees() -> None:
    for made in world.generate("train", 5, 20):
        scene, images = made.scene_json(), len(made.scenes)
        captions = [" ".join(state(fact, images) for fact in made.facts[:n]) for n in range(len(made.facts) + 1)]
        kind = Mcq(config.McqReward(by="scene", rounds=len(made.facts)))
        found = [v.value for v in kind.score(group(captions, scene=scene), means({}))]
        assert found == [n / len(made.facts) for n in range(len(made.facts) + 1)]
        if images == 1:
            for question, fact in zip(quiz(scene), made.facts, strict=True):
                assert (
                    fact.colour in question.question
                    and f"{fact.colour} {question.options[question.answer]}." in captions[-1]
                )
