"""How probable the gold answer is to the reasoner: what is forced, and what its log-probs are worth."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro import config
from racro.config import ScriptedReply
from racro.embedded import world
from racro.embedded.sentences import state
from racro.engines.local.transformers import TransformersEngine
from racro.models.folders import EMBEDDED
from racro.prompts import reasoner_messages
from racro.rewards.confidence import Confidence, worth
from racro.rewards.protocol import Means, Value
from tests.support.cases import group, rollout
from tests.support.judges import Listening


def values(engine: object, *captions: object, deadline: float = 60.0, lead: str = "The answer is", **known: object):  # type: ignore[no-untyped-def]
    means = Means(seed=0, iteration=0, deadline=deadline, reasoner=engine)  # type: ignore[arg-type]
    found = Confidence(config.ConfidenceReward(lead=lead)).score(group(list(captions), **known), means)  # type: ignore[arg-type]
    return list(found)


logprobs = st.lists(st.floats(-30, 0), min_size=1, max_size=8)


@given(logprobs)
def test_a_letter_is_worth_its_probability(given: list[float]) -> None:
    expected = math.prod(math.exp(value) for value in given)
    assert worth(given, "choice", 5.0).value == pytest.approx(expected)


@given(logprobs, st.floats(0.5, 10))
def test_a_text_is_worth_its_clipped_mean(given: list[float], floor: float) -> None:
    mean = sum(given) / len(given)
    assert worth(given, "text", floor).value == pytest.approx((max(mean, -floor) + floor) / floor)


def test_the_gold_answer_is_forced_after_the_lead_once_for_each_caption() -> None:
    engine = Listening(ScriptedReply(when="red 3", replies=("3",)), ScriptedReply(replies=("I do not know",)))
    found: list[Value] = values(engine, "red 3", "a chart", "red 3", rollout("cut", "deadline", 3))
    assert [v.value for v in found] == pytest.approx([1.0, 1e-3, 1.0, None])
    assert [(r.forced, r.prompt.lead) for r in engine.requests] == [(" 3", "The answer is")] * 2
    assert engine.requests[0].prompt.messages == reasoner_messages("What is the height of the red bar?", "red 3")


def test_a_reasoner_that_refuses_leaves_the_caption_unscored() -> None:
    assert [v.fault for v in values(Listening(ScriptedReply(when="never", replies=("3",))), "a chart")] == ["refused"]


def test_the_embedded_reasoner_is_surer_of_the_answer_when_the_caption_says_it() -> None:
    """Asked for one bar: that needs no reasoning before the box."""
    engine = TransformersEngine.reasoner(str(EMBEDDED / "reasoner"), "float32", "cpu", batch=8)
    told, untold = [], []
    for made in [p for p in world.generate("heldout", 2, 120) if p.category == "value"]:
        other = next(bar for bar in made.facts if bar not in made.asked)
        captions = (state(made.asked[0], 1), state(other, 1))
        found = values(engine, *captions, lead="\\boxed{", question=made.question, answer=made.answer)
        told.append(found[0].value)
        untold.append(found[1].value)
    engine.close()
    assert len(told) >= 12
    assert sum(a > b for a, b in zip(told, untold, strict=True)) >= 0.8 * len(told)
    assert statistics.fmean(told) > statistics.fmean(untold) + 0.4
