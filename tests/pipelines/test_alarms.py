"""Alarms and metrics of a real training: where they are found, and that they cost nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows.training import train
from racro.config import Recipe, loading
from racro.schema import Problem, ProblemTable
from racro.storage import artifacts
from racro.summary import Summary
from tasks.recording.alarms import Drifted
from tests.conftest import EMBEDDED_RECIPE, TINY

pytestmark = pytest.mark.usefixtures("prefect_server")


def tiny(*overrides: str) -> Recipe:
    return loading.load(
        EMBEDDED_RECIPE, [*TINY, "iterations=1", "evaluation.problems=4", "alarms.window=1", *overrides]
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def first(root: Path, prefect_server: str) -> Summary:
    return train(tiny(), run="first", root=str(root))


def test_a_calm_training_has_no_alarms(first: Summary, root: Path) -> None:
    assert first.alarms == ()
    assert 'class="card alarms"' not in (root / "first" / "report.html").read_text()


def test_an_alarm_is_in_summary_report_and_mlflow_and_nothing_runs_again(first: Summary, root: Path) -> None:
    summary = train(tiny("alarms.gap.share=1e-12"), run="warned", root=str(root))
    assert {total.executed for total in summary.stages.values()} == {0}
    [alarm] = summary.alarms
    assert (alarm.name, alarm.iteration, alarm.action) == ("gap", 0, "warn")
    assert json.loads((root / "warned" / "summary.json").read_text())["alarms"][0]["line"] == alarm.line
    assert (
        "iteration 0: gap: log-probs of engine and trainer differ by" in (root / "warned" / "report.html").read_text()
    )
    assert MlflowClient().get_run(summary.mlflow_run_id).data.tags["racro.alarm.gap"] == alarm.line


def test_an_alarm_that_stops_ends_the_run_with_its_line(first: Summary, root: Path) -> None:
    line = (
        r"^iteration 0: gap: log-probs of engine and trainer differ by .*, or raise it\. The run stops, because "
        r"alarms\.gap\.action is stop$"
    )
    with pytest.raises(Drifted, match=line):
        train(tiny("alarms.gap={share: 1e-12, action: stop}"), run="stopped", root=str(root))
    assert not (root / "stopped" / "summary.json").exists()


def test_metrics_by_category_add_up_to_those_of_the_iteration(first: Summary, root: Path) -> None:
    metrics = MlflowClient().get_run(first.mlflow_run_id).data.metrics
    [folder] = [f for f in (root / "artifacts" / "prepare").iterdir() if len(_categories(f)) == 64]
    categories = set(_categories(folder))
    found = {name.split("/")[2] for name in metrics if name.startswith("compose/by_category/")}
    assert found <= categories
    assert len(found) > 1
    problems = {name: metrics[f"compose/by_category/{name}/problems"] for name in found}
    assert sum(problems.values()) == metrics["compose/groups"] == 8
    mean = sum(metrics[f"compose/by_category/{name}/reward"] * count for name, count in problems.items()) / 8
    assert mean == pytest.approx(metrics["compose/reward_mean"])
    assert 0 <= metrics["compose/leaks"] <= 1
    assert not any("by_origin" in name for name in metrics), "bars come from no collection"


def _categories(folder: Path) -> list[str]:
    table = ProblemTable(uri=str(folder), rows=0, digest="")
    return [problem.category for problem in artifacts.read_table(table, Problem)]
