"""Rewards in a real training: what runs again when they change, what is stored, and what a bad function costs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from flows.training import train
from racro.config import Recipe, loading
from racro.rewards.protocol import Case
from racro.rewards.python import BadFunction
from racro.schema import RewardRow, RewardTable, ScoredRollout, ScoredTable
from racro.storage import artifacts
from racro.summary import Summary
from tasks.reward import TooManyUnscored
from tasks.running import engines
from tasks.running.stages import Stages
from tests.conftest import EMBEDDED_RECIPE, TINY
from tests.support.task_runs import task_runs

pytestmark = pytest.mark.usefixtures("prefect_server")

EVALUATION = ("describe", "answer", "grade", "aggregate")
KINDS = ("answer", "describes", "length", "minimal")
FOUR = (
    "rewards=[{type: answer}, {type: describes, weight: 0.1, gate: answer}, "
    "{type: length, name: short, weight: 0.2, budget: 3, limit: 9}, {type: minimal, weight: 0.1, gate: answer}]"
)


def tiny(*overrides: str) -> Recipe:
    return loading.load(EMBEDDED_RECIPE, [*TINY, "iterations=1", "evaluation.problems=8", FOUR, *overrides])


def executed(summary: Summary) -> dict[str, int]:
    """The stages of the training that ran; an evaluation may find that the new policy says what the old one said."""
    ran = {name: total.executed for name, total in summary.stages.items() if total.executed}
    return {name: count for name, count in ran.items() if name not in EVALUATION}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def first(root: str, prefect_server: str) -> Summary:
    return train(tiny(), run="first", root=root)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stages that ended, and the roles for which somebody wanted an engine, in order."""
    found: list[str] = []
    run, engine = Stages.run, engines._engine

    def stage(self: Stages, task: Any, *args: Any, **inputs: Any) -> Any:
        handle = run(self, task, *args, **inputs)
        found.append(task.name)
        return handle

    def wanted(role: Any, *args: Any) -> Any:
        found.append(f"engine of the {role}")
        return engine(role, *args)

    monkeypatch.setattr(Stages, "run", stage)
    monkeypatch.setattr(engines, "_engine", wanted)
    return found


def tables(root: str, stage: str, row: Any) -> Iterator[list[Any]]:
    for folder in (Path(root) / "artifacts" / stage).iterdir():
        handle = (ScoredTable if row is ScoredRollout else RewardTable)(uri=str(folder), rows=0, digest="")
        yield list(artifacts.read_table(handle, row))


def test_each_kind_is_a_stage_and_their_sum_is_what_the_policy_is_trained_with(first: Summary, root: str) -> None:
    once = (*(f"reward-{kind}" for kind in KINDS), "caption", "compose", "update", "parity")
    assert executed(first) == {"prepare": 2, **dict.fromkeys(once, 1)}
    [rows] = tables(root, "compose", ScoredRollout)
    for number, kind in enumerate(KINDS):
        [own] = tables(root, f"reward-{kind}", RewardRow)
        assert [(row.uid, row.sample, row.values[number]) for row in rows] == [(r.uid, r.sample, r.value) for r in own]
    for row in rows:
        right, describes, short, rank = row.values
        plain = 0.2 * short + (1 + 0.1 * describes + 0.1 * rank if right else 0)
        assert row.reward == pytest.approx(plain)
        assert short == pytest.approx(min(1, max(0, (9 - len(row.completion_ids)) / 6)))
    groups = [[row for row in rows if row.uid == uid] for uid in {row.uid for row in rows}]
    for group in groups:
        rewards = [row.reward for row in group]
        deviation = statistics.stdev(rewards)
        expected = [(r - statistics.fmean(rewards)) / (deviation + 1e-6) if deviation else 0.0 for r in rewards]
        assert [row.advantage for row in group] == pytest.approx(expected, abs=1e-6)


def test_another_weight_asks_no_model(first: Summary, root: str, events: list[str]) -> None:
    changed = train(tiny("rewards.1.weight=0.5", "rewards.2.weight=0.1"), run="weight", root=root)
    assert executed(changed) == {"compose": 1, "update": 1}
    training = events[: events.index("update")]
    assert [event for event in training if event.startswith("engine")] == []
    assert any(event.startswith("engine") for event in events), "of the new policy's evaluation"
    assert changed.policy.digest != first.policy.digest


def test_another_name_or_limit_changes_nothing_that_costs(first: Summary, root: str) -> None:
    renamed = train(tiny("rewards.2.name=brief", "rewards.2.max_unscored=0.5"), run="renamed", root=root)
    assert executed(renamed) == {"compose": 1}
    assert renamed.policy == first.policy


def test_a_new_kind_runs_its_own_stage_and_what_follows(first: Summary, root: str, events: list[str]) -> None:
    content = tiny().model_dump(mode="json")
    repeats = {"type": "python", "function": "racro.rewards.examples:repetition", "settings": {"size": 2}, "version": 1}
    content["rewards"].append(repeats)
    summary = train(Recipe.model_validate(content), run="python", root=root)
    assert executed(summary) == {"reward-python": 1, "compose": 1, "update": 1}
    assert not any(event.startswith("engine") for event in events[: events.index("update")])
    content["rewards"][-1]["version"] = 2
    again = train(Recipe.model_validate(content), run="python-2", root=root)
    assert executed(again) == {"reward-python": 1}, "the same values of another version: what follows is known"


# --- functions of the user's ------------------------------------------------------------------------------------------


def faulty(cases: Sequence[Case], *, share: float) -> list[float]:
    """Raises for this share of problems."""
    number = int(cases[0].problem.uid.rpartition("-")[2])
    if number % 8 < 8 * share:
        raise ValueError("no idea")
    return [math.nan if case.rollout.sample == 0 and share == 0 else 1.0 for case in cases]


def with_function(*overrides: str, function: str = f"{__name__}:faulty", **settings: Any) -> Recipe:
    content = tiny(*overrides).model_dump(mode="json")
    own = {"type": "python", "name": "mine", "function": function, "settings": settings, "version": 1}
    content["rewards"] = [{"type": "answer"}, own]
    return Recipe.model_validate(content)


def test_a_function_that_fails_too_often_stops_the_run_with_its_name_and_is_not_tried_again(
    first: Summary, root: str
) -> None:
    line = (
        r"^iteration 0: too many of 32 captions have no reward mine \(32 raised ValueError: no idea\); above "
        r"max_unscored = 0\.2 of this reward the run stops\. Remedy: correct the function$"
    )
    with pytest.raises(TooManyUnscored, match=line):
        train(with_function(share=1.0), run="faulty", root=root)
    assert task_runs("faulty")["reward mine 0"] == 1


def test_a_few_faults_are_counted_and_their_captions_unscored(first: Summary, root: str) -> None:
    recipe = with_function(share=0.0).model_dump(mode="json")
    recipe["rewards"][1]["max_unscored"] = 0.3
    summary = train(Recipe.model_validate(recipe), run="nan", root=root)
    assert executed(summary)["reward-python"] == 1
    records = [
        record
        for folder in (Path(root) / "artifacts" / "reward-python").iterdir()
        if (record := artifacts.read_record(str(folder))) and record.metrics["unscored"]
    ]
    assert [(r.metrics["unscored"], r.metrics["fault_not_finite"]) for r in records] == [(8, 8)]
    recipe["rewards"][1]["max_unscored"] = 0.2
    with pytest.raises(
        TooManyUnscored, match=r"8 of 32 captions have no reward mine from an earlier run; above .* 0\.2"
    ):
        train(Recipe.model_validate(recipe), run="strict", root=root)


def test_a_function_that_is_not_there_is_one_line_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(BadFunction, match=r"^rewards: mine: nowhere:score cannot be imported .*PYTHONPATH$"):
        train(with_function(function="nowhere:score"), run="nowhere", root=str(tmp_path / "root"))
    assert not (tmp_path / "root").exists()
