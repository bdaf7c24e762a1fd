"""Alarms of a training: raised exactly where the curves say so, once in each stage, whatever the rest does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro.config import Recipe
from racro.curves import IterationPoint
from racro.drift import raised
from racro.identity import recipe_digest

CALM: dict[str, Any] = {
    "reward_mean": 0.5,
    "rewards": {"answer": 0.5, "describes": -0.02},
    "caption_tokens_mean": 100.0,
    "entropy": 1.0,
    "kl": 0.01,
    "logprob_gap": 0.001,
    "leaks": 0.0,
}
REWARDS = [{"type": "answer"}, {"type": "describes", "weight": 0.1, "gate": "answer"}]
NAMES = ("length", "descriptions", "leaks", "entropy", "gap", "kl")


def point(number: int, stage: int = 0, **changes: Any) -> IterationPoint:
    rewards = CALM["rewards"] | {k: changes.pop(k) for k in ("answer", "describes") if k in changes}
    values = CALM | changes | {"rewards": rewards}
    return IterationPoint(
        iteration=number, stage=stage, reward_stderr=0.0, captions=8, groups=2, informative_groups=1, **values
    )


def recipe(**alarms: Any) -> Recipe:
    return Recipe.model_validate({"rewards": REWARDS, "alarms": alarms})


def course(**changes: Any) -> list[IterationPoint]:
    """Three calm iterations, and three with the changes."""
    return [point(k) for k in range(3)] + [point(k, **changes) for k in range(3, 6)]


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("length", {"caption_tokens_mean": 151.0}, "captions grew from 100 to 151 tokens, and answer went from 0.500"),
        ("descriptions", {"describes": -0.2}, "80.0% of the captions asked about describe an image, after 98.0%"),
        ("leaks", {"leaks": 0.25}, "25.0% of the captions announce an answer, after 0.0%"),
        ("entropy", {"entropy": 0.05}, "entropy fell from 1 to 0.05 nats per token"),
        ("gap", {"logprob_gap": 0.03}, "differ by 0.03 nats per token; above update.max_logprob_gap = 0.05"),
        ("kl", {"kl": 1.2}, "1.2 nats per token from where its stage began"),
    ],
)
def test_each_drift_raises_its_alarm_and_no_other(name: str, changes: dict[str, Any], words: str) -> None:
    [alarm] = raised(recipe(), course(**changes))
    assert (alarm.name, alarm.iteration, alarm.action) == (name, 5, "warn")
    assert alarm.line.startswith(f"iteration 5: {name}: ")
    assert words in alarm.line
    assert "; " in alarm.line, "with the remedy"
    assert raised(recipe(**{name: {"action": "ignore"}}), course(**changes)) == []
    assert raised(recipe(**{name: {"action": "stop"}}), course(**changes))[0].action == "stop"


def test_longer_captions_from_which_more_is_answered_are_no_alarm() -> None:
    assert raised(recipe(), course(caption_tokens_mean=200.0, answer=0.6)) == []


def test_another_stage_has_other_lengths() -> None:
    content = {"rewards": REWARDS, "stages": [{"objective": "answer", "rewards": [{"type": "answer"}]}, {}]}
    both = Recipe.model_validate(content)
    longer = [point(k, stage=1, caption_tokens_mean=500.0) for k in range(3, 9)]
    assert raised(both, [*(point(k) for k in range(3)), *longer]) == []
    grown = [*longer, *(point(k, stage=1, caption_tokens_mean=900.0) for k in range(9, 12))]
    assert [alarm.name for alarm in raised(both, grown)] == ["length"]


values = st.floats(0, 10)
points = st.lists(
    st.fixed_dictionaries(
        {
            "caption_tokens_mean": values,
            "answer": st.floats(0, 1),
            "describes": st.floats(-1, 0) | st.none(),
            "leaks": st.floats(0, 1) | st.none(),
            "entropy": values | st.none(),
            "kl": values | st.none() | st.just(float("nan")),
            "logprob_gap": values | st.none(),
        }
    ),
    max_size=12,
)


@given(points, st.integers(1, 4))
def test_what_was_raised_stays_and_depends_on_nothing_later(drawn: list[dict[str, Any]], window: int) -> None:
    settings = recipe(window=window)
    curve = [
        point(k, **{name: value for name, value in values.items() if (name, value) != ("describes", None)})
        for k, values in enumerate(drawn)
    ]
    found = raised(settings, curve)
    assert len({alarm.name for alarm in found}) == len(found)
    assert [alarm.iteration for alarm in found] == sorted(alarm.iteration for alarm in found)
    for until in range(len(curve)):
        assert raised(settings, curve[: until + 1]) == [alarm for alarm in found if alarm.iteration <= until]
    assert all(alarm.iteration >= window - 1 for alarm in found)


@given(st.floats(1, 1000), st.floats(0, 1), st.integers(1, 12))
def test_a_training_that_stays_as_it_is_raises_nothing(tokens: float, answer: float, count: int) -> None:
    assert raised(recipe(), [point(k, caption_tokens_mean=tokens, answer=answer) for k in range(count)]) == []


def test_alarms_are_no_part_of_the_identity() -> None:
    assert recipe_digest(recipe(window=7, kl={"action": "stop"})) == recipe_digest(recipe())
