"""The share of known facts that a caption states, as a judge says or as the scene does."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro import config
from racro.config import ScriptedReply
from racro.embedded import world
from racro.embedded.sentences import ORDINALS, word
from racro.rewards.facts import Facts, digits
from racro.rewards.protocol import Case, Value
from racro.schema import ImageFact
from tests.support.cases import group, rollout
from tests.support.judges import Listening, means

KNOWN = (ImageFact(text="A bar is red.", weight=3), ImageFact(text="It is 3 high."), ImageFact(text="There is a cat."))


def values(cases: Sequence[Case], judge: Listening, **how: float) -> list[Value]:
    return list(Facts(config.FactsReward()).score(cases, means({"judge": judge}, **how)))


@given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 9)), min_size=1, max_size=12), st.sampled_from([" ", ", ", ""]))
def test_the_value_is_the_weighted_share_of_stated_facts(facts: list[tuple[bool, float]], between: str) -> None:
    reply = between.join(str(int(stated)) for stated, _ in facts)
    known = tuple(ImageFact(text=f"fact {i}", weight=weight) for i, (_, weight) in enumerate(facts))
    [found] = values(group(["A caption."], facts=known), Listening(ScriptedReply(replies=(reply,))))
    total = sum(Fraction(weight) for _, weight in facts)
    assert found.value == pytest.approx(float(sum(Fraction(w) for stated, w in facts if stated) / total))


def test_each_caption_is_judged_once_with_all_facts() -> None:
    judge = Listening(ScriptedReply(when="Red", replies=("1 1 0",)), ScriptedReply(replies=("0 0 0",)))
    found = values(group(["Red.", "A cat.", "Red."], facts=KNOWN), judge)
    assert [v.value for v in found] == [4 / 5, 0.0, 4 / 5]
    assert found[0].detail == "2 of 3 facts"
    assert len(judge.requests) == 2
    assert all(f"{i}. {fact.text}" in judge.texts[0] for i, fact in enumerate(KNOWN, 1))
    assert judge.requests[0].sampling.temperature == 0


def test_a_wrong_count_is_asked_for_once_more_and_then_unscored() -> None:
    better = Listening(
        ScriptedReply(when="(?s)Red.*not have this form", replies=("1 0 0",)), ScriptedReply(replies=("1 1",))
    )
    found = values(group(["Red.", "A cat."], facts=KNOWN), better)
    assert [(v.value, v.fault) for v in found] == [(3 / 5, ""), (None, "unreadable")]
    assert len(better.requests) == 4


def test_a_numbered_answer_about_one_fact_is_not_about_two() -> None:
    assert digits("1. 0", 2) is None and digits("1 0.", 2) == (True, False)


@pytest.mark.parametrize("reply", ["", "1 1", "1 1 1 1", "1 2 0", "yes 1 1 0", "The facts: 110", "1.0 1 1 0"])
def test_only_exactly_as_many_digits_are_an_answer(reply: str) -> None:
    assert digits(reply, 3) is None


def test_what_cannot_be_judged_is_unscored_and_says_why() -> None:
    judge = Listening(ScriptedReply(when="slow", replies=("1 1 1",), delay=3600), ScriptedReply(replies=("1 1 1",)))
    captions = [rollout("slow"), rollout("cut", "deadline", 1), rollout("fine", sample=2), rollout("fine", sample=3)]
    found = values(group(captions, [1.0, 1.0, 0.0, 1.0], facts=KNOWN), judge, deadline=0.1)
    assert [(v.value, v.fault) for v in found] == [(None, "late"), (None, ""), (None, ""), (1.0, "")]
    assert [v.fault for v in values(group(["A caption."]), judge)] == ["no_facts"]


def test_a_captioner_that_thinks_to_its_limit_earns_nothing_and_nobody_is_asked() -> None:
    judge = Listening(ScriptedReply(replies=("1 1 1",)))
    found = values(group([rollout("", "length"), rollout("Red.", "length", 1)], facts=KNOWN), judge)
    assert [(v.value, v.detail) for v in found] == [(0.0, "no caption"), (1.0, "3 of 3 facts")]
    assert len(judge.requests) == 1


def test_a_refused_prompt_is_reported() -> None:
    told: list[str] = []
    given = means({"judge": Listening(ScriptedReply(when="never", replies=("1",)))})
    object.__setattr__(given, "refused", lambda problem, why: told.append(f"{problem.uid}: {why}"))
    [found] = Facts(config.FactsReward()).score(group(["A caption."], facts=KNOWN), given)
    assert (found.value, found.fault) == (None, "refused")
    assert len(told) == 1 and told[0].startswith("p: no rule of the scripted engine")


def test_a_judge_that_thinks_first_is_read_after_its_thoughts() -> None:
    judge = Listening(ScriptedReply(replies=("<think>1 1 1 or so</think>\n0 0 1",)))
    assert [v.value for v in values(group(["A caption."], facts=KNOWN), judge)] == [1 / 5]


@given(st.integers(0, 10**6), st.lists(st.integers(0, 7), max_size=8, unique=True), st.data())
def test_in_the_embedded_world_the_scene_says_what_is_stated(
    index: int, places: list[int], data: st.DataObject
) -> None:
    """The caption states some bars, rightly or not; only the right ones count."""
    made = world.problem("train", 0, index)
    facts, right, caption = made.facts, 0, ""
    for place in places:
        if place < len(facts):
            fact = facts[place]
            height = data.draw(st.sampled_from([fact.height, 1, 8]))
            right += height == fact.height
            ordinal = f"{ORDINALS[fact.image]} " if len(made.scenes) > 1 else ""
            caption += f"{ordinal}{fact.colour} {word(height)}. "
    cases = group([caption], scene=made.scene_json())
    [found] = Facts(config.FactsReward(by="scene")).score(cases, means({}))
    assert found.value == right / len(facts)
