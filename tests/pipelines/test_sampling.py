"""Advantages, curricula and refills in real trainings: what runs, what is drawn, and that resuming changes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from flows.profiling import profile
from flows.rehearsal import rehearse
from flows.training import train
from racro import config
from racro.config import Recipe, loading
from racro.data.problems import load
from racro.schema import Problem, ProblemTable, ScoredRollout, ScoredTable, Standing, StandingTable
from racro.storage import artifacts
from racro.storage.artifacts import Record
from racro.summary import ProfileSummary, Summary
from tasks.compose import moments
from tests.conftest import EMBEDDED_RECIPE, TINY

pytestmark = pytest.mark.usefixtures("prefect_server")

ESTIMATORS = ("none", "batch", "ema", "gdpo")


def tiny(*overrides: str) -> Recipe:
    few = ("evaluation.problems=8", "evaluation.every=99")
    return loading.load(EMBEDDED_RECIPE, [*TINY, *few, *overrides])


def executed(summary: Summary | ProfileSummary) -> dict[str, int]:
    wanted = ("select", "caption", "reward-answer", "compose", "update", "profile")
    return {name: total.executed for name, total in summary.stages.items() if name in wanted and total.executed}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("root"))


def records(root: str, stage: str) -> Iterator[tuple[str, Record]]:
    for folder in sorted((Path(root) / "artifacts" / stage).iterdir()):
        record = artifacts.read_record(str(folder))
        assert record is not None
        yield str(folder), record


def rows(root: str, handle: Any, row: Any) -> list[Any]:
    return list(artifacts.read_table(handle, row))


def test_another_estimator_asks_no_model_for_the_captions_that_are_there(root: str) -> None:
    first = train(tiny("iterations=1"), run="group", root=root)
    assert executed(first) == {"caption": 1, "reward-answer": 1, "compose": 1, "update": 1}
    digests = {first.policy.digest}
    for name in ESTIMATORS:
        other = train(tiny("iterations=1", f"advantage.type={name}"), run=name, root=root)
        assert executed(other) == {"compose": 1, "update": 1}
        digests.add(other.policy.digest)
    assert len(digests) == 5, "each is another update of the real model"
    again = train(tiny("iterations=1", "advantage.type=group"), run="again", root=root)
    assert executed(again) == {} and again.recipe_digest == first.recipe_digest


def test_ema_goes_on_from_the_moments_of_the_iteration_before_also_when_it_resumes(root: str, tmp_path: Path) -> None:
    recipe = tiny("iterations=2", "advantage={type: ema, decay: 0.5}")
    whole = train(recipe, run="ema-whole", root=root)
    found = {folder: record for folder, record in records(root, "compose") if "advantage" in record.inputs}
    both = [r for r in found.values() if (r.inputs["advantage"] or {}).get("decay") == 0.5]
    assert [r.inputs.get("before") is None for r in sorted(both, key=lambda r: r.finished)] == [True, False]

    begun = str(tmp_path / "root")
    train(tiny("iterations=1", "advantage={type: ema, decay: 0.5}"), run="begun", root=begun)
    resumed = train(recipe, run="resumed", root=begun)
    assert resumed.policy.digest == whole.policy.digest
    assert executed(resumed)["compose"] == 1
    states = [
        moments(ScoredTable(uri=artifacts.files_of(folder, record), rows=0, digest=""))
        for place in (root, begun)
        for folder, record in records(place, "compose")
        if (record.inputs.get("advantage") or {}).get("decay") == 0.5
    ]
    assert all(set(state) <= {p.category for p in problems(root)} and state for state in states)
    assert sorted(map(repr, states[:2])) == sorted(map(repr, states[2:]))


def problems(root: str) -> list[Problem]:
    folder, record = next(pair for pair in records(root, "prepare") if pair[1].inputs["heldout"] is None)
    return rows(root, ProblemTable(uri=folder, **record.handle), Problem)


# --- curricula --------------------------------------------------------------------------------------------------------


def drawn(root: str, kind: str) -> list[tuple[int, int, list[Standing]]]:
    """(iteration, round, table) of each selection by a curriculum of this kind, in order."""
    found = []
    for folder, record in records(root, "select"):
        if record.inputs["curriculum"]["type"] == kind:
            table = rows(root, StandingTable(uri=folder, **record.handle), Standing)
            found.append((record.inputs["iteration"], record.inputs["round"], table))
    return sorted(found, key=lambda one: one[:2])


@pytest.mark.parametrize(("kind", "iterations"), [("pools", 2), ("variance", 3)])
def test_a_curriculum_knows_the_iterations_before_and_a_resumed_training_draws_the_same(
    kind: str, iterations: int, tmp_path: Path
) -> None:
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    recipe = tiny(f"iterations={iterations}", f"curriculum.type={kind}", "problems.count=16")
    done = train(recipe, run="whole", root=whole)
    assert executed(done)["select"] == iterations
    assert all(call.record for call in rehearse(recipe, whole)), "the plan knows"
    tables = drawn(whole, kind)
    assert [sum(row.round == 0 for row in table) for _, _, table in tables] == [8] * iterations
    assert not any(row.reward is not None for row in tables[0][2])
    asked = [{row.uid for row in table if row.round == 0} for _, _, table in tables]
    for before, (_, _, table) in zip(asked, tables[1:], strict=False):
        assert before <= {row.uid for row in table if row.reward is not None}
    assert len({frozenset(one) for one in asked}) == iterations

    train(recipe.model_copy(update={"iterations": 1}), run="begun", root=parts)
    shutil.rmtree(Path(parts) / "begun")
    resumed = train(recipe, run="resumed", root=parts)
    assert executed(resumed)["select"] == iterations - 1
    assert drawn(parts, kind) == tables and resumed.policy.digest == done.policy.digest


def test_order_takes_one_category_after_the_other(tmp_path: Path) -> None:
    root = str(tmp_path)
    recipe = tiny("curriculum={type: order, categories: [value, choice]}", "rollout.problems=4", "update.mini_batch=2")
    train(recipe, run="ordered", root=root)
    category = {problem.uid: problem.category for problem in problems(root)}
    composed = [ScoredTable(uri=folder, **record.handle) for folder, record in records(root, "compose")]
    seen = [{category[row.uid] for row in rows(root, table, ScoredRollout)} for table in composed]
    assert sorted(map(sorted, seen)) == [["choice"], ["value"]]


def test_an_unknown_category_is_one_line_before_a_model_is_asked(tmp_path: Path) -> None:
    from racro.rollouts.curriculum import NoSuchCategory

    with pytest.raises(NoSuchCategory, match=r"no problem has the category algebra; there are .*value"):
        train(tiny("curriculum={type: order, categories: [algebra]}"), run="unknown", root=str(tmp_path))
    assert not (tmp_path / "artifacts" / "parity").exists()


# --- refill -----------------------------------------------------------------------------------------------------------


def test_groups_without_signal_are_replaced_and_the_first_captions_are_those_of_a_plain_training(root: str) -> None:
    train(tiny("iterations=1"), run="plain", root=root)
    summary = train(tiny("iterations=1", "rollout.refill=2"), run="refilled", root=root)
    assert all(call.record for call in rehearse(tiny("iterations=1", "rollout.refill=2"), root)), "the plan knows"
    assert executed(summary).get("select", 0) >= 1, "some first groups give no signal"
    rounds = executed(summary)["select"]
    assert executed(summary) == {
        "select": rounds,
        "caption": rounds,
        "reward-answer": rounds,
        "compose": rounds,
        "update": 1,
    }
    _, last = max(
        (pair for pair in records(root, "compose") if "refills" in pair[1].inputs), key=lambda pair: pair[1].finished
    )
    metrics = last.metrics
    assert metrics["refill_rounds"] == rounds
    assert metrics["rollouts"] == last.handle["rows"] == 4 * metrics["groups"] == 4 * (8 + metrics["groups_replaced"])
    assert metrics["groups_informative"] <= 8


def test_a_refill_takes_no_problem_twice_and_ends_when_all_are_in(tmp_path: Path) -> None:
    root = str(tmp_path)
    recipe = tiny("iterations=1", "rollout.refill=9", "problems.count=10", "rollout.problems=8")
    train(recipe, run="small", root=root)
    _, last = max(records(root, "compose"), key=lambda pair: pair[1].finished)
    table = rows(root, ScoredTable(uri=artifacts.files_of(_, last), **last.handle), ScoredRollout)
    uids = [row.uid for row in table if row.sample == 0]
    assert len(uids) == len(set(uids)) <= 10


# --- references -------------------------------------------------------------------------------------------------------


def test_references_join_groups_without_a_right_caption_and_no_caption_is_asked_for_again(root: str) -> None:
    rewards = "rewards=[{type: answer}, {type: length, weight: 0.1, budget: 4, limit: 12}]"
    plain = train(tiny("iterations=1", rewards), run="without", root=root)
    recipe = tiny("iterations=2", rewards, "rollout.references=true", "runtime.checkpoint_every=2")
    summary = train(recipe, run="referred", root=root)
    assert all(call.record for call in rehearse(recipe, root)), "the plan knows"
    assert executed(summary)["caption"] == 1, "those of the first iteration are there"
    assert summary.policy.digest != plain.policy.digest
    found = sorted((r for _, r in records(root, "compose") if "references" in r.inputs), key=lambda r: r.finished)
    for record in found:
        table = rows(
            root, ScoredTable(uri=artifacts.files_of(_of(root, record), record), **record.handle), ScoredRollout
        )
        known = [row for row in table if row.reference]
        assert len(known) == record.metrics["references"] <= record.metrics["references_asked"]
        assert record.metrics["groups"] == 8 and len(table) == 32 + len(known)
        for row in known:
            own = [other for other in table if other.uid == row.uid and not other.reference]
            assert {other.values[0] for other in own} <= {0.0, None} and row.values[0] == 1.0
            assert (row.sample, row.prompt_ids) == (4, own[0].prompt_ids)
            assert row.advantage is not None and row.advantage > max(other.advantage or 0.0 for other in own)
            ended = [other for other in own if other.finish_reason == "stop"]
            assert all(other.completion_ids[-1] == row.completion_ids[-1] for other in ended), "as a policy ends"
    assert sum(record.metrics["references"] for record in found) >= 1, "the untrained captioner gets some all wrong"
    again = train(recipe, run="referred-again", root=root)
    assert executed(again) == {} and again.policy.digest == summary.policy.digest


def _of(root: str, record: Record) -> str:
    return next(folder for folder, other in records(root, record.stage) if other.identity == record.identity)


# --- pass rates -------------------------------------------------------------------------------------------------------


def test_pass_rates_are_measured_once_start_a_curriculum_and_filter_problems(tmp_path: Path) -> None:
    root = str(tmp_path)
    recipe = tiny("iterations=1", "problems.count=24")
    summary = profile(recipe, captions=2, run="rates", root=root)
    assert executed(summary) == {"caption": 1, "reward-answer": 1, "profile": 1}
    table = rows_of(summary.table)
    assert [row["uid"] for row in table] == [problem.uid for problem in problems(root)]
    assert {row["pass_rate"] for row in table} <= {0.0, 0.5, 1.0} and {row["scored"] for row in table} == {2}
    mean = sum(row["pass_rate"] for row in table) / 24
    assert (summary.pass_rate, summary.n, summary.unmeasured) == (pytest.approx(mean), 24, 0)
    assert sum(band.problems for band in summary.bands) == 24
    assert executed(profile(recipe, captions=2, run="again", root=root)) == {}

    started = train(tiny("iterations=1", "problems.count=24", "curriculum={type: pools, profile: 2}"), "pools", root)
    assert executed(started)["caption"] == 1, "that of the iteration; the profile's are there"
    [(_, _, first)] = drawn(root, "pools")
    known = {row.uid: row.reward for row in first}
    assert {row["uid"]: row["pass_rate"] for row in table} == known

    columns = ("image: images", *(f"{name}: {name}" for name in ("uid", "kind", "category", "choices", "pass_rate")))
    source = f"{{type: table, source: {summary.table}, columns: {{{', '.join(columns)}}}, min_pass_rate: 0.5}}"
    bands = config.TableProblems.model_validate(yaml.safe_load(source))
    prepared = load(bands, str(tmp_path / "images"), seed=0)
    solved = {row["uid"] for row in table if row["pass_rate"] >= 0.5}
    assert prepared.problems and {problem.uid for problem in prepared.problems} <= solved
    assert {row.reason for row in prepared.dropped if row.deliberate} == {"pass rate outside"}


def rows_of(file: str) -> list[dict[str, Any]]:
    return pq.read_table(file).to_pylist()
