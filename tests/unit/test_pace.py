"""How long the rest of a training takes is estimated from what was executed, and from nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro.config import Recipe
from racro.curves import IterationPoint
from racro.pace import Pace, Row
from racro.summary import Score

TIMES = st.floats(0.01, 1e4)


def recipe(iterations: int, every: int) -> Recipe:
    return Recipe.model_validate({"iterations": iterations, "evaluation": {"every": every}})


@given(st.integers(1, 30), st.integers(1, 30), TIMES, TIMES)
def test_even_parts_leave_what_is_left_of_them_and_nothing_at_the_end(
    iterations: int, every: int, iteration: float, evaluation: float
) -> None:
    pace = Pace(recipe(iterations, every))
    left = iterations * iteration + (1 + -(-iterations // every)) * evaluation
    for number in range(iterations + 1):
        if number:
            pace.ended("iteration", iteration, cached=False)
            left -= iteration
        if number % every == 0 or number == iterations:
            pace.ended("evaluation", evaluation, cached=False)
            left -= evaluation
        assert pace.left is None if number == 0 else pace.left == pytest.approx(left, abs=1e-6 * (1 + left))


@given(st.integers(1, 9), TIMES)
def test_parts_from_the_cache_say_nothing_about_the_rest(cached: int, seconds: float) -> None:
    pace = Pace(recipe(10, 100))
    pace.ended("evaluation", 0.1, cached=True)
    for _ in range(cached):
        pace.ended("iteration", 0.1, cached=True)
    assert pace.left is None
    pace.ended("iteration", seconds, cached=False)
    assert pace.left is None, "no evaluation was executed, and one is to come"
    pace.ended("evaluation", seconds, cached=False)
    assert pace.left == pytest.approx((9 - cached) * seconds)


def test_a_line_says_what_is_known_and_no_more() -> None:
    point = IterationPoint(
        iteration=2, reward_mean=0.5, reward_stderr=0.01, captions=64, groups=16, informative_groups=12
    )
    score = Score(accuracy=0.61, stderr=0.011, n=2048, truthful=None, states_asked=None, leaks=None)
    row = Row(3, 8, point, score, 20.3, cached=False, left=130.0)
    assert row.line == (
        "iteration 3 of 8: reward 0.500 ± 0.010, 75% of the groups informative, accuracy 61.0 ± 1.1 % (n = 2,048), "
        "20 s, about 2.2 min to go"
    )
    assert point.model_copy(update={"groups": 1}).reward == "0.500", "one case has no error"
    assert point.model_copy(update={"reward_stderr": 0.0}).reward == "0.500", "nor have equal ones"
    assert row._replace(point=None, score=None, cached=True, left=None).line == "iteration 3 of 8: from the cache"
