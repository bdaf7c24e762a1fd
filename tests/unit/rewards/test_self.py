"""The policy answers from its own caption, graded as the reasoner's answers are."""

from __future__ import annotations

from racro import config
from racro.config import ScriptedReply
from racro.engines.protocol import Sampling
from racro.prompts import reasoner_messages
from racro.rewards.protocol import Means, Value
from racro.rewards.self import Self
from racro.schema import Verdict
from tests.support.cases import QUESTION, group, rollout
from tests.support.judges import Listening

RULES = (
    ScriptedReply(when=r"red bar is (\d)", replies=(r"So \boxed{\1}.",)),
    ScriptedReply(when="slow", replies=(r"\boxed{3}",), delay=3600),
    ScriptedReply(when="chart", replies=("I see nothing",)),
)


def values(policy: Listening, *captions: object, deadline: float = 60.0) -> list[Value]:
    settings = config.SelfReward(temperature=0.5, max_tokens=70)
    means = Means(seed=0, iteration=0, deadline=deadline, policy=policy)
    return list(Self(settings).score(group(list(captions), [1.0] * (len(captions) - 1) + [0.0]), means))  # type: ignore[arg-type]


def test_right_and_wrong_captions_are_told_apart() -> None:
    policy = Listening(*RULES)
    captions = (
        "The red bar is 3.",
        "The red bar is 4.",
        "A chart.",
        "slow",
        "none",
        rollout("cut", "deadline", 5),
        "x",
    )
    found = values(policy, *captions, deadline=0.2)
    assert [v.value for v in found] == [1.0, 0.0, 0.0, None, None, None, None]
    assert [v.verdict for v in found[:3]] == [Verdict.CORRECT, Verdict.WRONG, Verdict.UNPARSED]
    assert [v.verdict for v in found[3:5]] == [Verdict.FAILED] * 2, "too slow, and refused"
    assert len(policy.requests) == 5, "neither about a cut caption nor where the gate is 0"
    assert policy.requests[0].sampling == Sampling(n=1, temperature=0.5, max_tokens=70, deadline=0.2)
    assert policy.requests[0].prompt.images == ()
    assert policy.requests[0].prompt.messages == reasoner_messages(QUESTION, "The red bar is 3.")
