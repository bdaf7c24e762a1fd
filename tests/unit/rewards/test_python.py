"""A function of the user's: what it may return, and that each of its faults costs its captions and is counted."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from racro import config
from racro.rewards import kinds
from racro.rewards.examples import repetition
from racro.rewards.protocol import Case, Means, Value
from racro.rewards.python import BadFunction, Python
from tests.support.cases import group, rollout

ended = threading.Event()
"""Lets functions that hang return at the end."""


@pytest.fixture(autouse=True, scope="module")
def _end() -> Iterator[None]:
    yield
    ended.set()


def words(cases: Sequence[Case], *, least: int) -> list[float]:
    return [float(len(case.rollout.caption.split()) >= least) for case in cases]


class Silent(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


def odd(cases: list[Case]) -> Any:
    """Does for each problem what its caption says."""
    match cases[0].rollout.caption:
        case "raise":
            raise ValueError("out\nof order")
        case "exit":
            raise SystemExit(3)
        case "time":
            raise TimeoutError("of its own")
        case "hang":
            ended.wait()
        case "count":
            return [1.0]
        case "text":
            return "11"
        case "nothing":
            return None
        case "odd values":
            return [float("nan"), float("inf"), 10**400, "1", Decimal(1), None, 1e200, -1.7e308]
        case "numbers":
            return np.array([0.5, 1.0], dtype=np.float32)
        case "tensor":
            return torch.tensor([0.5, 1.0])
        case "of NumPy":
            return [np.bool_(True), torch.tensor(0.5)]
        case "empties":
            return (value for value in [1.0] * len(cases) if cases.pop())
        case "endless":
            return itertools.repeat(1.0)
        case "later":
            return (1 / number for number in (1, 0))
        case "silent":
            raise Silent
        case "surrogate":
            raise ValueError("\ud800")
    return (value for value in (1, True))


def reward(function: str, **settings: Any) -> config.PythonReward:
    return config.PythonReward(function=f"{__name__}:{function}", settings=settings, version=1)


def score(*captions: str, size: int = 2, deadline: float = 60.0) -> list[Value]:
    cases = [
        case
        for number, caption in enumerate(captions)
        for case in group([rollout(caption, sample=i, uid=str(number)) for i in range(size)])
    ]
    return list(Python(reward("odd")).score(cases, Means(seed=0, iteration=0, deadline=deadline)))


def test_it_gets_the_captions_of_a_problem_and_its_settings() -> None:
    kind = Python(reward("words", least=3))
    kind.require()
    cases = group(["one two three", "one"])
    assert [v.value for v in kind.score(cases, Means(seed=0, iteration=0, deadline=60.0))] == [1.0, 0.0]


def test_numbers_of_any_library_and_generators_are_taken() -> None:
    found = [v.value for v in score("numbers", "fine", "tensor", "of NumPy", "empties")]
    assert found == [0.5, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize(
    ("caption", "fault", "detail"),
    [
        ("raise", "raised", "raised ValueError: out of order"),
        ("exit", "raised", "raised SystemExit: 3"),
        ("time", "raised", "raised TimeoutError: of its own"),
        ("count", "wrong_count", "returned 1 values for 2 captions"),
        ("endless", "wrong_count", "returned more than 2 values for 2 captions"),
        ("later", "raised", "raised ZeroDivisionError: division by zero"),
        ("silent", "raised", "raised Silent"),
        ("surrogate", "raised", "raised ValueError: ?"),
        ("text", "no_list", "returned str, not a list of numbers"),
        ("nothing", "no_list", "returned NoneType, not a list of numbers"),
    ],
)
def test_a_fault_costs_the_captions_of_its_call(caption: str, fault: str, detail: str) -> None:
    found = score("fine", caption, "fine")
    assert [v.value for v in found] == [1.0, 1.0, None, None, 1.0, 1.0]
    assert {(v.fault, v.detail) for v in found[2:4]} == {(fault, detail)}


def test_values_that_are_no_finite_numbers_are_unscored_one_by_one() -> None:
    found = score("odd values", size=8)
    assert [v.value for v in found] == [None] * 8
    assert [v.fault for v in found] == [*["not_finite"] * 3, "no_number", "no_number", "", *["not_finite"] * 2]


def test_a_function_that_hangs_is_not_called_again() -> None:
    found = score("fine", "hang", "fine", deadline=0.5)
    assert [v.value for v in found] == [1.0, 1.0, None, None, None, None]
    assert [v.fault for v in found[2:]] == ["hung"] * 4


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("nowhere.at.all:score", r"cannot be imported \(ModuleNotFoundError.*PYTHONPATH"),
        (f"{__name__}:missing", r"cannot be imported \(AttributeError"),
        (f"{__name__}:ended", "is no function"),
        (f"{__name__}:words", r"does not take these settings: missing a required argument: 'least'"),
    ],
)
def test_what_cannot_be_called_is_one_line_before_anything_starts(function: str, message: str) -> None:
    with pytest.raises(BadFunction, match=message) as caught:
        kinds.require([config.AnswerReward(), config.PythonReward(name="mine", function=function, version=1)])
    assert str(caught.value).startswith("rewards: mine: ") and "\n" not in str(caught.value)


def test_a_module_that_ends_as_a_program_is_one_line_and_a_function_of_c_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_script_without_main.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadFunction, match=r"cannot be imported \(SystemExit: 0\)"):
        Python(config.PythonReward(function="a_script_without_main:score", version=1)).require()
    Python(config.PythonReward(function="builtins:max", version=1)).require()


def test_the_example_counts_repeated_runs_of_words() -> None:
    cases = group(["a b a b a b", "a b c", "a", ""])
    assert repetition(cases, size=2) == pytest.approx([-3 / 5, 0.0, 0.0, 0.0])
