"""The sum of rewards against a small implementation of its rules; RAPID's formula; what is stored with captions."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro import config
from racro.rewards.advantage import advantages
from racro.rewards.composition import Term, compose, summed, terms
from racro.rewards.measures import correlation, measured
from racro.schema import RewardRow, Verdict
from tests.support.cases import rollout

Group = list[list[float | None]]

numbers = st.sampled_from([0.0, 1.0, -1.0, 0.5, 0.25])
weights = st.sampled_from([0.0, 1.0, 0.1, -2.0])


@st.composite
def sums(draw: st.DrawFn) -> tuple[list[Term], Group]:
    names = "abcd"[: draw(st.integers(1, 4))]
    drawn = [
        Term(name=name, weight=draw(weights), gate=draw(st.none() | st.sampled_from(names[:i])) if i else None)
        for i, name in enumerate(names)
    ]
    row = st.lists(st.none() | numbers, min_size=len(drawn), max_size=len(drawn))
    return drawn, draw(st.lists(row, min_size=1, max_size=5))


def plainly(terms: list[Term], group: Group) -> list[float | None]:
    """The same rules, written as they are told."""
    gates = {term.name: term.gate for term in terms}
    column = {term.name: number for number, term in enumerate(terms)}

    def with_gates(name: str, row: list[float | None]) -> float:
        """The product of a value and its gates; nan if it is not known, unless a gate is 0."""
        product = 1.0 if (gate := gates[name]) is None else with_gates(gate, row)
        value = row[column[name]]
        return 0.0 if product == 0 else math.nan if value is None else value * product

    found: list[float | None] = []
    for row in group:
        known = [
            term.weight * with_gates(term.name, row)
            for term in terms
            if term.weight and any(other[column[term.name]] is not None for other in group)
        ]
        found.append(None if not known or math.isnan(sum(known)) else sum(known))
    return found


@given(sums())
def test_the_sum_follows_its_rules(drawn: tuple[list[Term], Group]) -> None:
    expected = [None if value is None else pytest.approx(value) for value in plainly(*drawn)]
    assert summed(*drawn) == expected


RAPID = terms(
    (config.AnswerReward(), config.DescribesReward(weight=0.1, gate="answer")),
)


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, None]), st.sampled_from([0.0, -1.0])), min_size=1, max_size=8))
def test_the_answer_with_describes_is_rapids_formula_to_the_last_bit(drawn: list[tuple[float | None, float]]) -> None:
    """As the stage makes it: only right captions are judged."""
    group = [[right, describes if right else None] for right, describes in drawn]
    expected = [None if r is None else (1.0 - 0.1 if d else 1.0) if r else 0.0 for r, d in drawn]
    assert summed(RAPID, group) == expected


def test_one_reward_of_weight_1_is_the_reward() -> None:
    assert summed(terms((config.AnswerReward(),)), [[1.0], [0.0], [None]]) == [1.0, 0.0, None]


def test_a_kind_without_any_value_is_left_out_of_its_group_alone() -> None:
    two = terms((config.AnswerReward(), config.LengthReward()))
    assert summed(two, [[1.0, None], [0.0, None]]) == [1.0, 0.0]
    assert summed(two, [[1.0, None], [0.0, 1.0]]) == [None, 1.0]
    assert summed(two, [[None, None]]) == [None]


def row(uid: str, sample: int, value: float | None, **more: Any) -> RewardRow:
    return RewardRow(uid=uid, sample=sample, value=value, detail="", **{"response": None, "verdict": None} | more)


def test_a_composed_rollout_has_values_reward_advantage_and_the_answer() -> None:
    rollouts = [rollout(uid=uid, sample=sample) for uid in "ab" for sample in range(2)]
    answers = [
        row(r.uid, r.sample, v, response="r", verdict=Verdict.CORRECT)
        for r, v in zip(rollouts, [1.0, 0.0, None, 1.0], strict=True)
    ]
    lengths = [row(r.uid, r.sample, v) for r, v in zip(rollouts, [0.5, 0.5, 1.0, None], strict=True)]
    found = compose(
        rollouts, [lengths, answers], (Term(name="l", weight=2.0, gate=None), Term(name="a", weight=1.0, gate=None))
    )
    assert [r.values for r in found] == [(0.5, 1.0), (0.5, 0.0), (1.0, None), (None, 1.0)]
    assert [r.reward for r in found] == [2.0, 1.0, None, None]
    assert [r.advantage for r in found] == [*advantages([[2.0, 1.0]])[0], None, None]
    assert {(r.response, r.verdict) for r in found} == {("r", Verdict.CORRECT)}
    [first, *_] = compose(rollouts, [lengths], (Term(name="l", weight=1.0, gate=None),))
    assert (first.response, first.verdict) == (None, None)


def test_tables_of_other_rollouts_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        compose([rollout(), rollout(sample=1)], [[row("p", 0, 1.0)]], terms((config.AnswerReward(),)))


# --- what the recipe refuses ------------------------------------------------------------------------------------------


def listed(*rewards: Any) -> tuple[config.Reward, ...]:
    return config.Recipe(rewards=rewards).rewards  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        ((), "at least one reward"),
        (({"type": "answer"}, {"type": "answer"}), "two rewards are called answer"),
        (({"type": "answer"}, {"type": "length", "name": "answer"}), "two rewards are called answer"),
        (({"type": "describes", "gate": "answer"}, {"type": "answer"}), "gate: answer is not a reward above it"),
        (({"type": "answer", "gate": "answer"},), "gate: answer is not a reward above it"),
        (({"type": "answer", "weight": 0},), "all weights are 0"),
        (({"type": "answer", "weight": "nan"},), "finite"),
    ],
)
def test_a_list_that_cannot_be_summed_is_refused(rewards: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        listed(*rewards)


def test_what_a_stage_computes_does_not_depend_on_name_weight_gate_and_limit() -> None:
    from racro.identity import digest

    plain = config.LengthReward(budget=5)
    other = config.LengthReward(budget=5, name="short", weight=0.2, gate="answer", max_unscored=0.5)
    assert other.alone() == plain
    assert digest(other.alone()) == digest(plain)
    assert digest(other) != digest(plain) != digest(config.LengthReward(budget=6))
    python = config.PythonReward(function="a:b", version=1)
    assert digest(python) != digest(python.model_copy(update={"version": 2}))


# --- measures ---------------------------------------------------------------------------------------------------------


def test_the_mean_is_over_problems_and_none_counts_nowhere() -> None:
    rollouts = [rollout(uid=uid, sample=sample) for uid in "abc" for sample in range(2)]
    found = measured(rollouts, [1.0, None, 0.0, 1.0, None, None])
    assert found == {"mean": 0.75, "stderr": pytest.approx(0.25), "groups": 3, "groups_informative": 1}
    assert measured([], [])["mean"] == 0.0


def test_a_correlation_is_over_what_is_known_and_varies() -> None:
    assert correlation([1.0, 0.0, None, 1.0], [2.0, 1.0, 5.0, 2.0]) == pytest.approx(1.0)
    assert correlation([1.0, 1.0], [2.0, 1.0]) is None
    assert correlation([1.0, None], [2.0, 1.0]) is None
