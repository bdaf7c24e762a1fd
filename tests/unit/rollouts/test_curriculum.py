"""Curricula: which problems are drawn, how often, and from what they follow."""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro import config
from racro.config import EmbeddedProblems, OrderCurriculum, PoolsCurriculum, Recipe, TableProblems, VarianceCurriculum
from racro.rollouts import curriculum as curricula
from racro.rollouts.captioner import select
from racro.schema import PassRate, Problem, ScoredRollout
from tests.support.cases import rollout
from tests.support.scoring import scored

POOLS = PoolsCurriculum()
rates = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from([0.0, 0.25, 0.26, 0.5, 0.75, 0.76, 1.0]))


def pool(uids: str = "abcdefgh", category: str = "c") -> list[Problem]:
    return [
        Problem(uid=uid, question="?", answer="1", kind="integer", category=category, choices=(), images=(), scene=None)
        for uid in uids
    ]


def groups(rewards: dict[str, list[float | None]]) -> list[ScoredRollout]:
    made = [rollout(uid=uid, sample=i) for uid, own in rewards.items() for i in range(len(own))]
    return scored(made, [reward for own in rewards.values() for reward in own])


@given(rates)
def test_the_weight_of_a_problem_is_that_of_its_pool(known: dict[str, float]) -> None:
    found = curricula.weights(POOLS, pool(), {uid: (rate, 0.0) for uid, rate in known.items()})
    expected = [
        1.0 if problem.uid not in known else 0.2 if known[problem.uid] <= 0.25 or known[problem.uid] > 0.75 else 1.0
        for problem in pool()
    ]
    assert found == expected


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0, 10)))
def test_the_more_rewards_varied_the_likelier_a_problem_is_drawn(variances: dict[str, float]) -> None:
    found = curricula.weights(VarianceCurriculum(), pool(), {uid: (0.5, v) for uid, v in variances.items()})
    largest = max(variances.values(), default=0.0)
    for problem, weight in zip(pool(), found, strict=True):
        if problem.uid not in variances:
            assert weight == 1.0
        else:
            share = variances[problem.uid] / largest if largest else 0.0
            assert weight == pytest.approx(max(0.05, share))


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.sampled_from([0.0, 1.0, None]), min_size=2, max_size=4)))
def test_what_is_known_of_a_problem_is_its_latest_scored_group(rewards: dict[str, list[float | None]]) -> None:
    before = {"a": (0.125, 0.5), "z": (1.0, 0.0)}
    found = curricula.learned(before, groups(rewards))
    for uid in {*before, *rewards}:
        known = [reward for reward in rewards.get(uid, []) if reward is not None]
        if known:
            assert found[uid] == pytest.approx((statistics.fmean(known), statistics.pvariance(known)))
        else:
            assert found.get(uid) == before.get(uid)


def test_a_profile_counts_as_a_group_of_zeros_and_ones() -> None:
    rows = [PassRate(uid="a", rate=0.25, scored=4), PassRate(uid="b", rate=None, scored=0)]
    assert curricula.profiled(rows) == {"a": curricula.learned({}, groups({"a": [1.0, 0.0, 0.0, 0.0]}))["a"]}


# --- drawing ----------------------------------------------------------------------------------------------------------

weighted = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.floats(0.01, 1) | st.just(0.0), max_size=20)


@given(weighted, st.integers(0, 25), st.integers(0, 3), st.integers(0, 3), st.randoms(use_true_random=False))
def test_a_draw_is_without_replacement_and_depends_on_no_order(
    weights: dict[str, float], count: int, seed: int, iteration: int, dice: random.Random
) -> None:
    uids = list(weights)
    found = curricula.draw(uids, list(weights.values()), count, seed, iteration, 0)
    assert len(found) == len(set(found)) == min(count, sum(w > 0 for w in weights.values()))
    assert all(weights[uid] > 0 for uid in found)
    dice.shuffle(uids)
    assert curricula.draw(uids, [weights[uid] for uid in uids], count, seed, iteration, 0) == found


@given(weighted, st.integers(1, 25))
def test_a_problem_that_leaves_changes_nothing_for_the_others(weights: dict[str, float], count: int) -> None:
    found = curricula.draw(list(weights), list(weights.values()), count, 0, 0, 0)
    for gone in found[:1]:
        rest = {uid: weight for uid, weight in weights.items() if uid != gone}
        assert curricula.draw(list(rest), list(rest.values()), count, 0, 0, 0)[: len(found) - 1] == found[1:]


def test_draws_differ_by_seed_iteration_and_round() -> None:
    uids = [str(i) for i in range(50)]
    made = [
        tuple(curricula.draw(uids, [1.0] * 50, 10, *which)) for which in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    assert len(set(made)) == 4


def test_a_first_draw_is_by_weight() -> None:
    """Of 4,000 draws of one problem: within four standard errors of its share of the weights."""
    weights = {"a": 1.0, "b": 0.2, "c": 0.2, "d": 0.05}
    n = 4000
    counted = Counter(curricula.draw(list(weights), list(weights.values()), 1, 0, i, 0)[0] for i in range(n))
    for uid, weight in weights.items():
        share = weight / sum(weights.values())
        assert abs(counted[uid] / n - share) < 4 * math.sqrt(share * (1 - share) / n)


# --- rounds -----------------------------------------------------------------------------------------------------------


def chosen(curriculum: config.Curriculum, count: int, round: int = 0, **more: Any) -> list[str]:
    given: dict[str, Any] = {"known": {}, "taken": (), "category": None} | more
    return curricula.chosen(pool(), curriculum, count, 0, 3, round, **given)


@given(st.integers(1, 10))
def test_without_a_curriculum_the_walk_goes_on(count: int) -> None:
    walk = [problem.uid for problem in select(pool(), count, 0, 3)]
    assert chosen(config.UniformCurriculum(), count) == walk
    assert chosen(OrderCurriculum(categories=("c",)), count, category="c") == walk


@given(st.integers(1, 10), st.integers(1, 3), st.sets(st.sampled_from("abcdefgh")))
def test_a_refill_takes_new_problems_alone(count: int, round: int, taken: set[str]) -> None:
    for kind in (config.UniformCurriculum(), POOLS, VarianceCurriculum(), OrderCurriculum(categories=("c",))):
        found = chosen(kind, count, round, taken=taken)
        assert not taken.intersection(found) and len(found) == min(count, 8 - len(taken))


def test_a_table_carries_what_is_known_and_who_was_asked_when() -> None:
    rows = curricula.standings(["b", "a"], 1, {"a": (0.5, 0.25), "z": (1.0, 0.0)}, {"c": 0})
    found = [(row.uid, row.round, row.reward, row.variance) for row in rows]
    assert found == [("b", 1, None, None), ("a", 1, 0.5, 0.25), ("c", 0, None, None), ("z", None, 1.0, 0.0)]
    assert curricula.known_of(rows) == {"a": (0.5, 0.25), "z": (1.0, 0.0)}


# --- the recipe -------------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.lists(st.floats(0.05, 1), min_size=1, max_size=4))
def test_categories_follow_each_other_and_have_their_shares(iterations: int, parts: list[float]) -> None:
    shares = tuple(part / sum(parts) for part in parts)
    names = tuple("abcd"[: len(parts)])
    order = OrderCurriculum(categories=names, shares=shares)
    phases = [order.phase(k, iterations) for k in range(iterations)]
    found = [category for category, _ in phases]
    assert found == sorted(found)
    for name, share in zip(names, shares, strict=True):
        own = [number for category, number in phases if category == name]
        assert own == list(range(len(own))) and abs(len(own) - share * iterations) <= 1


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"type": "pools", "hard": 0.8}, "must be below easy"),
        (
            {"type": "pools", "hard_weight": 0, "medium_weight": 0, "easy_weight": 0, "new_weight": 0},
            "all weights are 0",
        ),
        ({"type": "variance", "floor": 0}, "greater than 0"),
        ({"type": "order", "categories": []}, "at least 1"),
        ({"type": "order", "categories": ["a", "a"]}, "named twice"),
        ({"type": "order", "categories": ["a", "b"], "shares": [1.0]}, "1 shares for 2 categories"),
        ({"type": "order", "categories": ["a", "b"], "shares": [0.5, 0.4]}, "add up to 0.9"),
    ],
)
def test_what_makes_no_curriculum_is_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe.model_validate({"curriculum": section})


def test_what_the_problems_do_not_allow_is_refused() -> None:
    table = TableProblems(source="x.jsonl")
    with pytest.raises(ValueError, match=r"order goes by categories; .* problems\.columns\.category"):
        Recipe(problems=table, curriculum=OrderCurriculum(categories=("a",)))
    settings = config.RolloutSettings(problems=256, refill=1)
    with pytest.raises(ValueError, match=r"rollout\.refill: no new problems .* all 200 "):
        Recipe(problems=EmbeddedProblems(count=200), rollout=settings)


def test_a_curriculum_and_refills_count_when_they_are_set() -> None:
    from racro.identity import computed, digest, recipe_digest

    assert "curriculum" not in computed(Recipe())
    assert recipe_digest(Recipe(curriculum=POOLS)) != recipe_digest(Recipe())
    plain, refilled = config.RolloutSettings(), config.RolloutSettings(refill=2)
    assert digest(refilled) != digest(plain) == digest(refilled.alone())
