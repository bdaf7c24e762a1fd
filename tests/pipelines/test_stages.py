"""A training of several stages: what each of them does, what is cached, and what a stop in the second one costs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from flows.rehearsal import rehearse
from flows.training import train
from racro.config import Recipe, loading
from racro.models.folders import model_digest
from racro.schema import Policy, Problem, ProblemTable, RewardRow, RewardTable, Rollout, RolloutTable, Verdict
from racro.storage import artifacts
from racro.summary import Summary
from racro.training.lineage import Lineage
from tasks.running import engines
from tasks.running.policies import handle_of
from tasks.running.stages import Stages
from tasks.running.trainer import work_of
from tests.conftest import EMBEDDED_RECIPE, TINY
from tests.support.task_runs import task_runs
from tests.support.updating import update

pytestmark = pytest.mark.usefixtures("prefect_server")

ANSWERS = "{objective: answer, rollout: {group_size: 8, max_tokens: 16}, update: {beta: 0.0, clip_high: 0.3}}"
TWO = (f"stages=[{ANSWERS}, {{}}]", "iterations=2", "evaluation.every=99", "evaluation.problems=8")


def tiny(*overrides: str) -> Recipe:
    return loading.load(EMBEDDED_RECIPE, [*TINY, *TWO, *overrides])


@pytest.fixture(scope="module")
def asked() -> list[str]:
    """Stages that began in `whole`, and the roles for which they wanted an engine, in order."""
    return []


@pytest.fixture(scope="module")
def whole(root: str, asked: list[str], prefect_server: str) -> Summary:
    run, engine = Stages.run, engines._engine

    def stage(self: Stages, task: Any, *args: Any, **inputs: Any) -> Any:
        asked.append(task.name)
        return run(self, task, *args, **inputs)

    def wanted(role: Any, *args: Any) -> Any:
        asked.append(f"engine of the {role}")
        return engine(role, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stages, "run", stage)
        patch.setattr(engines, "_engine", wanted)
        return train(tiny(), run="whole", root=root)


def handles(root: str, stage: str) -> dict[str, Any]:
    """Handles of a stage's artifacts, in the order in which they were made."""
    folders = sorted(
        (Path(root) / "artifacts" / stage).iterdir(), key=lambda folder: (folder / "record.json").stat().st_mtime
    )
    found = {}
    for folder in map(str, folders):
        record = artifacts.read_record(folder)
        assert record is not None
        found[folder] = handle_of(record, folder)
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("root"))


def executed(summary: Summary) -> dict[str, int]:
    return {name: total.executed for name, total in summary.stages.items() if total.executed}


def test_the_first_stage_answers_by_itself_and_the_second_captions(whole: Summary, asked: list[str]) -> None:
    first = asked[asked.index("solve") : asked.index("describe", asked.index("solve"))]
    assert first.count("solve") == 2
    assert "caption" not in first
    assert "engine of the reasoner" not in first
    assert first.count("reward-answer") == first.count("update") == 2
    second = asked[len(asked) - 1 - asked[::-1].index("solve") :]
    assert second.count("caption") == 2
    assert "engine of the reasoner" in second
    assert whole.iterations == 4
    names = task_runs(whole.run)
    assert {"solve 0", "solve 1", "caption 2", "caption 3", "update 3"} <= names.keys()
    assert "describe heldout 1/1, iteration 2" in names, "the policy with which a stage ended is evaluated"


def test_own_answers_are_graded_by_rule_in_the_same_tables(whole: Summary, root: str) -> None:
    [rollouts, _] = handles(root, "solve").values()
    assert isinstance(rollouts, RolloutTable)
    rows = list(artifacts.read_table(rollouts, Rollout))
    assert len(rows) == 8 * 8
    [table, _, _, _] = handles(root, "reward-answer").values()
    assert isinstance(table, RewardTable)
    values = list(artifacts.read_table(table, RewardRow))
    record = artifacts.read_record(table.uri)
    assert record is not None
    assert record.inputs["reasoner"] is record.inputs["reasoner_model"] is None
    [problems, _] = handles(root, "prepare").values()
    assert isinstance(problems, ProblemTable)
    answers = {problem.uid: problem.answer for problem in artifacts.read_table(problems, Problem)}
    for row, value in zip(rows, values, strict=True):
        right = value.verdict is Verdict.CORRECT
        assert value.value == float(right)
        assert right == (f"\\boxed{{{answers[row.uid]}}}" in row.caption)
    assert any(value.value for value in values)


def test_the_same_command_computes_nothing_and_another_second_stage_keeps_the_first(whole: Summary, root: str) -> None:
    assert all(call.record for call in rehearse(tiny(), root)), "the plan knows"
    assert executed(train(tiny(), run="again", root=root)) == {}
    other = executed(train(tiny("stages.1.update.learning_rate=1e-3", "stages.1.iterations=1"), run="other", root=root))
    assert "solve" not in other
    assert "caption" not in other, "the same policy on the same problems"
    assert other["update"] == 1


def test_a_training_in_one_stage_or_in_two_that_go_on_is_the_plain_one(root: str) -> None:
    plain = train(loading.load(EMBEDDED_RECIPE, [*TINY, *TWO[1:]]), run="plain", root=root)
    one = train(tiny("stages=[{}]"), run="one", root=root)
    two = train(tiny("stages=[{iterations: 1}, {iterations: 1, start: continued}]"), run="two", root=root)
    assert executed(one) == {}
    assert set(executed(two)) <= {"describe", "answer", "grade", "aggregate"}, "of the policy between the two"
    assert one.policy == two.policy == plain.policy


def test_a_fresh_stage_is_a_training_of_its_own_that_begins_with_the_policy_so_far(
    whole: Summary, root: str, tmp_path: Path
) -> None:
    policies = list(handles(root, "update").values())[:4]
    recipe = tiny()
    before, after = policies[1], policies[2]
    assert isinstance(before, Policy)
    line = Lineage.read(after)
    assert line.initial.digest == line.policy.digest == before.digest
    found = update(
        work_of(line),
        images_base=line.problems.uri,
        policy=Path(before.uri),
        initial=Path(before.uri),
        out=tmp_path / "out",
        step=0,
        captioner=recipe.captioner,
        temperature=1.0,
        config=recipe.update,
        runtime=recipe.runtime,
        seed=0,
    )
    record = artifacts.read_record(after.uri)
    assert record is not None
    for name in ("loss", "kl", "grad_norm", "entropy"):
        assert found[name] == pytest.approx(record.metrics[name], rel=1e-4, abs=1e-7), name
    assert found["steps"] == after.step - before.step
    assert model_digest(tmp_path / "out") == after.files


TWINS = {
    "racro-3b": "embedded",
    "racro-7b": "embedded",
    "racro-32b": "embedded",
    "rapid-7b": "embedded-rapid",
    "rapid-3b": "embedded-rapid-again",
    "rapid-32b": "embedded-penalty",
    "caprl-3b": "embedded-caprl",
    "vision-sr1-3b": "embedded-vision-sr1",
    "perception-r1-7b": "embedded-perception-r1",
}
"""Recipes for photographs -> recipes of the embedded world that take the same ways."""


def ways(recipe: Recipe) -> list[Any]:
    return [
        (phase.objective, [(r.type, r.weight, r.gate) for r in phase.rewards], phase.update.loss, phase.update.beta > 0)
        for phase in recipe.phases
    ]


@pytest.mark.parametrize("name", [name for name in loading.names() if "embedded" not in name and name != "smoke"])
def test_every_recipe_for_photographs_has_a_twin_that_takes_the_same_ways(name: str) -> None:
    assert ways(loading.load(name)) == ways(loading.load(TWINS[name]))


@pytest.mark.parametrize("twin", sorted({*TWINS.values()} - {"embedded"}))
def test_a_twin_runs_all_its_stages(twin: str, tmp_path: Path) -> None:
    recipe = loading.load(twin)
    few = [f"stages.{number}.iterations=1" for number in range(len(recipe.stages))]
    small = loading.load(twin, [*TINY, "iterations=1", "evaluation.every=99", "evaluation.problems=4", *few])
    summary = train(small, run="twin", root=str(tmp_path))
    assert summary.iterations == len(recipe.phases)
    ran = {"answer": "solve", "caption": "caption"}
    counts = Counter(ran[phase.objective] for phase in recipe.phases)
    assert {name: summary.stages[name].executed for name in counts} == counts
    kinds = {f"reward-{reward.type}" for phase in recipe.phases for reward in phase.rewards}
    assert kinds <= executed(summary).keys()
    page = (tmp_path / "twin" / "report.html").read_text()
    assert ("<th>writes</th>" in page) == (len(recipe.phases) > 1)


class Stopped(Exception):
    """Stands for a kill: engines and trainer end with it."""


@pytest.mark.parametrize(("start", "lora"), [("fresh", False), ("continued", False), ("fresh", True)])
def test_stopped_in_the_second_stage_the_same_command_ends_with_the_same_weights(
    start: str, lora: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [f"stages.1.start={start}", "stages.1.update.learning_rate=1e-3", "update.warmup_steps=3"]
    recipe = tiny(
        *changes, "stages.0.iterations=1", "runtime.checkpoint_every=2", *(["captioner.lora={rank: 4}"] if lora else [])
    )
    undisturbed = train(recipe, run="whole", root=str(tmp_path / "undisturbed"))
    run = Stages.run

    def stop(self: Stages, task: Any, run_name: str, *args: Any, **inputs: Any) -> Any:
        if run_name == "compose 2":
            raise Stopped
        return run(self, task, run_name, *args, **inputs)

    root = str(tmp_path / "stopped")
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Stages, "run", stop)
        train(recipe, run="stopped", root=root)
    resumed = train(recipe, run="stopped", root=root)
    assert resumed.stages["update"].executed == 1
    assert resumed.policy.digest == undisturbed.policy.digest
