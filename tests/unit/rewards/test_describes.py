"""The policy judges, once each, the captions that its gate lets count; a judgement that never comes is unscored."""

from __future__ import annotations

from typing import Any

import pytest

from racro import config
from racro.config import ScriptedReply
from racro.prompts import describes_messages
from racro.rewards.describes import Describes, described
from racro.rewards.protocol import Means, Value
from tests.support.cases import group, rollout
from tests.support.counted import Counted

JUDGE = (
    ScriptedReply(when="### A text regarding an image: The answer", replies=("No.",)),
    ScriptedReply(replies=(" YES",)),
)
CAPTIONS = ["The red bar is 3.", "The answer: 3.", "The red bar is 3.", "A chart.", "Nobody knows."]


def values(captions: list[Any], gates: list[float | None] | None, policy: Counted) -> list[Value]:
    means = Means(seed=0, iteration=0, deadline=0.1, policy=policy)
    return list(Describes(config.DescribesReward()).score(group(captions, gates), means))


def test_captions_whose_gate_is_0_or_unknown_are_not_asked() -> None:
    policy = Counted(*JUDGE)
    assert [v.value for v in values(CAPTIONS, [1.0, 1.0, 1.0, 0.0, None], policy)] == [0.0, -1.0, 0.0, None, None]
    assert set(policy.asked) == {describes_messages(caption)[-1]["content"][0]["text"] for caption in CAPTIONS[:2]}
    assert policy.sampling is not None and policy.sampling.temperature == 0


def test_without_a_gate_all_are_asked_but_what_the_deadline_cut() -> None:
    policy = Counted(*JUDGE)
    found = values([*CAPTIONS, rollout("The red", "deadline", 5)], None, policy)
    assert [v.value for v in found] == [0.0, -1.0, 0.0, 0.0, 0.0, None]
    assert len(policy.asked) == 4


@pytest.mark.parametrize("rule", [{"delay": 3600}, {"when": "nothing like it"}], ids=["never", "refused"])
def test_a_judgement_that_never_comes_is_unscored(rule: dict[str, Any]) -> None:
    [found] = values(CAPTIONS[:1], None, Counted(ScriptedReply(replies=("No.",), **rule)))
    assert found.value is None


@pytest.mark.parametrize(
    ("said", "expected"),
    [("**Yes**", True), (" yes.", True), ("<think>\nA chart.\n</think>\n\nYes", True), ("<think>\nOkay", None)]
    + [(other, False) for other in ("No.", "", "Perhaps yes", "A chart")],
)
def test_how_the_policy_s_word_is_read(said: str, expected: bool | None) -> None:
    assert described(said) is expected
