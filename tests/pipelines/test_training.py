"""The whole pipeline, for real and tiny: a run, the same again, a changed recipe, what is left behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from flows.training import train
from racro.config import Recipe, loading
from racro.identity import recipe_digest
from racro.models.folders import load_captioner, model_digest, torch_device
from racro.schema import ScoredRollout
from racro.storage import artifacts
from racro.summary import Summary
from tests.conftest import EMBEDDED_RECIPE, TINY

pytestmark = pytest.mark.usefixtures("prefect_server")

EVALUATION = ("describe", "answer", "grade", "aggregate")
ITERATION = ("caption", "reward-answer", "compose", "update")
STAGES = {"prepare": 2, "parity": 1, **dict.fromkeys(EVALUATION, 2), **dict.fromkeys(ITERATION, 2)}


def tiny(*overrides: str) -> Recipe:
    return loading.load(EMBEDDED_RECIPE, [*TINY, *overrides])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def first(root: str, prefect_server: str) -> Summary:
    return train(tiny(), run="first", root=root)


def executed(summary: Summary) -> dict[str, int]:
    return {name: total.executed for name, total in summary.stages.items()}


def cached(summary: Summary) -> dict[str, int]:
    return {name: total.cached for name, total in summary.stages.items()}


def test_a_run_executes_every_stage_and_leaves_summary_report_recipe_and_policy(first: Summary, root: str) -> None:
    assert executed(first) == STAGES
    assert sum(cached(first).values()) == 0
    run = Path(root) / "first"
    assert Summary.model_validate_json((run / "summary.json").read_text()) == first
    assert {file.name for file in run.iterdir()} == {
        "run.json",
        "summary.json",
        "report.html",
        "curve.png",
        "recipe.yaml",
    }
    assert loading.load(str(run / "recipe.yaml")) == tiny()
    assert (first.base.n, first.final.n) == (32, 32)
    assert first.optimizer_steps >= 2
    policy = Path(first.policy.uri)
    assert model_digest(policy) == first.policy.digest
    load_captioner(policy, "float32", torch_device("cpu"))


def test_the_same_recipe_again_executes_nothing_and_gives_the_same_policy(first: Summary, root: str) -> None:
    again = train(tiny(), run="again", root=root)
    assert sum(executed(again).values()) == 0
    assert cached(again) == STAGES
    assert (again.policy, again.base, again.final) == (first.policy, first.base, first.final)


def test_runtime_changes_no_digest_and_no_cache_key(first: Summary, root: str) -> None:
    other = tiny("runtime.caption_batch=3", "runtime.reason_batch=7", "runtime.timeouts.caption=100")
    assert recipe_digest(other) == first.recipe_digest
    assert sum(executed(train(other, run="other-machine", root=root)).values()) == 0


def test_another_learning_rate_executes_only_what_depends_on_it(first: Summary, root: str) -> None:
    changed = train(tiny("update.learning_rate=1e-3"), run="faster", root=root)
    fresh = {**dict.fromkeys(ITERATION, 1), "update": 2}
    assert executed(changed) == {"prepare": 0, "parity": 0, **dict.fromkeys(EVALUATION, 1), **fresh}
    assert changed.policy.digest != first.policy.digest
    assert changed.base == first.base


def test_a_shorter_run_has_its_policy_from_a_longer_one(first: Summary, root: str) -> None:
    """Which did not evaluate it, and so kept no model folder: its update is replayed, and nothing is asked again."""
    short = train(tiny("iterations=1"), run="short", root=root)
    assert executed(short) == {**dict.fromkeys(STAGES, 0), **dict.fromkeys(EVALUATION, 1)}
    assert model_digest(Path(short.policy.uri)) == short.policy.digest != first.policy.digest


def test_a_deleted_artifact_is_made_again_and_nothing_else(first: Summary, root: str) -> None:
    (victim,) = [
        folder
        for folder in (Path(root) / "artifacts" / "reward-answer").iterdir()
        if (record := artifacts.read_record(str(folder))) and record.inputs["iteration"] == 0
    ]
    shutil.rmtree(victim)
    mended = train(tiny(), run="mended", root=root)
    assert executed(mended) == {**dict.fromkeys(STAGES, 0), "reward-answer": 1}
    assert mended.policy == first.policy


def test_a_root_can_be_moved_and_its_results_still_count(first: Summary, root: str, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "moved")
    moved = train(tiny(), run="first", root=str(tmp_path / "moved"))
    assert sum(executed(moved).values()) == 0
    assert moved.policy.digest == first.policy.digest
    assert moved.policy.uri.startswith(str(tmp_path))


def test_every_rollout_is_scored_and_belongs_to_the_policy_that_wrote_it(first: Summary, root: str) -> None:
    writers = {
        record.handle["digest"]: record.inputs["policy"]["digest"]
        for folder in (Path(root) / "artifacts" / "caption").iterdir()
        if (record := artifacts.read_record(str(folder)))
    }
    for folder in (Path(root) / "artifacts" / "compose").iterdir():
        record = artifacts.read_record(str(folder))
        assert record is not None
        place = artifacts.files_of(str(folder), record)
        rows = [r for s in record.shards for r in artifacts.read_shard(f"{place}/{s.name}", ScoredRollout, s.sha256)]
        assert len(rows) == 8 * 4
        assert {row.policy for row in rows} == {writers[record.inputs["rollouts"]["digest"]]}
        assert all((row.advantage is None) == (row.reward is None) for row in rows)
        assert all(len(row.completion_ids) == len(row.logprobs) > 0 for row in rows)


def test_the_summary_is_the_contract(first: Summary, root: str) -> None:
    content = json.loads((Path(root) / "first" / "summary.json").read_text())
    assert set(content) == {
        "run",
        "recipe_digest",
        "seed",
        "iterations",
        "optimizer_steps",
        "base",
        "final",
        "alarms",
        "policy",
        "stages",
        "seconds",
        "prefect_flow_run_id",
        "mlflow_run_id",
    }
    assert set(content["base"]) == {"accuracy", "stderr", "n", "truthful", "states_asked", "leaks"}
    assert set(content["policy"]) == {"uri", "digest"}
    assert all(set(total) == {"seconds", "executed", "cached"} for total in content["stages"].values())


def test_an_s3_like_root_works_as_a_local_one_does(first: Summary) -> None:
    remote = train(tiny(), run="remote", root="memory://bucket/runs")
    assert executed(remote) == STAGES
    assert remote.policy.digest == first.policy.digest
    assert remote.policy.uri.startswith("memory://")
    again = train(tiny(), run="remote", root="memory://bucket/runs")
    assert sum(executed(again).values()) == 0
