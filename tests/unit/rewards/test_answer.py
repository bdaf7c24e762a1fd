"""Equal questions are asked once; what says nothing about a caption leaves it unscored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from racro import config
from racro.config import ScriptedReply
from racro.engines.protocol import Sampling
from racro.rewards.answer import Answer, counts, worth
from racro.rewards.protocol import Means, Value
from racro.schema import Rollout, Verdict
from tests.support.cases import group, rollout
from tests.support.counted import Counted

READER = ScriptedReply(when=r"The red bar is (\d)", replies=(r"So it is \boxed{\1}.",))
UNKNOWN = ScriptedReply(replies=(r"\boxed{unknown}",))


def values(
    captions: Sequence[str | Rollout], engine: Counted, deadline: float = 60.0, truncated: Any = "wrong", **means: Any
) -> list[Value]:
    settings = config.Reasoner(max_tokens=100, temperature=0.7, top_p=0.9)
    given = Means(seed=0, iteration=0, deadline=deadline, reasoner=engine, reasoner_settings=settings, **means)
    return list(Answer(config.AnswerReward(truncated=truncated)).score(group(captions), given))


def test_right_and_wrong_captions_are_told_apart_in_their_order() -> None:
    found = values(["The red bar is 3.", "The red bar is 4.", "A chart."], Counted(READER, UNKNOWN))
    assert [(v.verdict, v.value) for v in found] == [
        (Verdict.CORRECT, 1.0),
        (Verdict.WRONG, 0.0),
        (Verdict.WRONG, 0.0),
    ]
    assert found[0].response == r"So it is \boxed{3}."


def test_equal_questions_are_asked_once_and_all_answered() -> None:
    engine = Counted(READER, UNKNOWN)
    found = values(["The red bar is 3.", "A chart.", "The red bar is 3.", "A chart."], engine)
    assert len(engine.asked) == 2
    assert [v.value for v in found] == [1.0, 0.0, 1.0, 0.0]
    assert engine.sampling == Sampling(n=1, temperature=0.7, top_p=0.9, max_tokens=100, deadline=60.0)


@pytest.mark.parametrize(
    ("rule", "verdict", "value"),
    [
        (ScriptedReply(replies=("I see many things.",)), Verdict.UNPARSED, 0.0),
        (ScriptedReply(replies=("hm " * 200,)), Verdict.TRUNCATED, 0.0),
        (ScriptedReply(replies=(r"\boxed{3} " + "hm " * 200,)), Verdict.CORRECT, 1.0),
        (ScriptedReply(replies=(r"\boxed{3}",), delay=3600), Verdict.FAILED, None),
        (ScriptedReply(replies=("\\boxed{" * 12,)), Verdict.UNPARSED, 0.0),
    ],
    ids=["no answer", "too long", "too long after the answer", "never", "garbage"],
)
def test_a_broken_reasoner_has_its_own_verdicts(rule: ScriptedReply, verdict: Verdict, value: float | None) -> None:
    [found] = values(["The red bar is 3."], Counted(rule), deadline=0.1)
    assert (found.verdict, found.value) == (verdict, value)


def test_truncated_can_be_unscored() -> None:
    [found] = values(["x"], Counted(ScriptedReply(replies=("hm " * 200,))), truncated="unscored")
    assert (found.verdict, found.value) == (Verdict.TRUNCATED, None)


def test_a_caption_that_was_not_finished_in_time_is_failed_without_being_asked() -> None:
    engine = Counted(READER, UNKNOWN)
    found = values([rollout("The red bar is 3.", "deadline"), rollout("The red bar is 3.", "length", 1)], engine)
    assert [(v.verdict, v.value) for v in found] == [(Verdict.FAILED, None), (Verdict.CORRECT, 1.0)]
    assert len(engine.asked) == 1


def test_a_refused_caption_is_failed_and_reported() -> None:
    refusals: list[tuple[str, str]] = []
    found = values(
        ["The red bar is 3.", "A chart."],
        Counted(READER),
        refused=lambda problem, why: refusals.append((problem.uid, why)),
    )
    assert [(v.verdict, v.value) for v in found] == [(Verdict.CORRECT, 1.0), (Verdict.FAILED, None)]
    [(uid, why)] = refusals
    assert uid == "p" and "no rule" in why


@pytest.mark.parametrize(("truncated", "earned"), [("wrong", 0.0), ("unscored", None)])
def test_a_captioner_that_thinks_to_its_limit_is_truncated_and_nobody_is_asked(truncated: str, earned: Any) -> None:
    engine = Counted(READER, UNKNOWN)
    captions = [rollout("", "length"), rollout("The red bar is 3.", "length", 1), rollout("", "stop", 2)]
    found = values(captions, engine, truncated=truncated)
    assert [v.verdict for v in found] == [Verdict.TRUNCATED, Verdict.CORRECT, Verdict.WRONG]
    assert [v.value for v in found] == [earned, 1.0, 0.0]
    assert len(engine.asked) == 2


def test_only_a_failure_and_what_the_recipe_says_is_unscored() -> None:
    wrong = {Verdict.CORRECT: 1.0, Verdict.WRONG: 0.0, Verdict.UNPARSED: 0.0, Verdict.TRUNCATED: 0.0}
    assert {verdict: worth(verdict, "wrong") for verdict in Verdict} == {**wrong, Verdict.FAILED: None}
    assert worth(Verdict.TRUNCATED, "unscored") is None


def test_every_verdict_is_counted() -> None:
    assert counts([Verdict.WRONG, Verdict.CORRECT, Verdict.WRONG]) == {
        "correct": 1,
        "wrong": 2,
        "unparsed": 0,
        "truncated": 0,
        "failed": 0,
    }
