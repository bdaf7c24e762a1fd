"""What MLflow and Prefect hold after a run, and that running again adds nothing twice. One tiny real run for all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image
from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import Artifact, TaskRun

from flows.training import train
from racro.config import Recipe, loading
from racro.home import home
from racro.identity import recipe_digest
from racro.models.folders import model_digest
from racro.pace import Row
from racro.schema import CHAMPION, EntryTable, FrozenModel, Policy, ProblemTable
from racro.storage import artifacts
from racro.summary import Score, Summary
from tasks.recording import events, registry, track
from tasks.running import observing
from tests.conftest import EMBEDDED_RECIPE, TINY
from tests.support.eventually import eventually

BEGIN = """
import sys
from pathlib import Path
from racro.config import Recipe
from tasks.recording import track

recipe = Recipe.model_validate_json(Path(sys.argv[1]).read_text())
print(track.open_run.fn(recipe, "digest", "twin", sys.argv[2]))
"""

pytestmark = pytest.mark.usefixtures("prefect_server")

RECIPE_CHANGES = (
    *TINY,
    "evaluation.problems=8",
    "evaluation.every=1",
    "runtime.renewal=1",  # what people look at, after each iteration
    "runtime.mirrors=[tensorboard]",
    "seed=77",  # an MLflow registry of its own: other tests have other held-out problems
)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return loading.load(EMBEDDED_RECIPE, RECIPE_CHANGES)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("tracked"))


class Onlooker:
    """Looks at Prefect and MLflow while a training runs: whenever a stage begins after an iteration was told of."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.seen: dict[int, dict[str, Any]] = {}
        """By iteration: artifacts in Prefect by key, files in MLflow, and the pages that links lead to."""
        self.told: Row | None = None

    def stage(self, what: str, done: int, total: int) -> None:
        """Called from within the flow run."""
        row, self.told = self.told, None
        if row is None:
            return
        identity = runtime.flow_run.id or ""
        shown = artifacts_of(identity)
        links = [str(one.data).partition("](")[2].partition(")")[0] for one in shown.values() if "](" in str(one.data)]
        [run] = runs_of(self.root)
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(identity)).state_name
        self.seen[row.number] = {
            "state": state,
            "shown": shown,
            "files": {item.path for item in MlflowClient().list_artifacts(run.info.run_id)},
            "pages": {
                path: path.exists() for link in links if (path := Path(link.removeprefix("file://"))).is_absolute()
            },
        }

    def row(self, row: Row) -> None:
        self.told = row


def artifacts_of(flow_run: str) -> dict[str, Artifact]:
    ours = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(flow_run)]))
    with get_client(sync_client=True) as client:
        return {str(artifact.key): artifact for artifact in client.read_artifacts(artifact_filter=ours)}


@pytest.fixture(scope="module")
def onlooker(root: str) -> Onlooker:
    return Onlooker(root)


@pytest.fixture(scope="module")
def first(recipe: Recipe, root: str, onlooker: Onlooker, prefect_server: str) -> Summary:
    with observing.observed(onlooker.stage, onlooker.row, lambda line: None):
        return train(recipe, run="tracked", root=root)


@pytest.fixture(scope="module")
def snapshot(first: Summary) -> dict[str, Any]:
    """Everything in MLflow about the run before it is run again."""
    return everything(first)


@pytest.fixture(scope="module")
def again(snapshot: dict[str, Any], recipe: Recipe, root: str) -> Summary:
    return train(recipe, run="tracked", root=root)


def runs_of(root: str) -> list[Run]:
    client = MlflowClient()
    experiment = client.get_experiment_by_name("racro")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], f"tags.`racro.root` = '{root}'"))


def models_of(summary: Summary) -> list[Any]:
    client = MlflowClient()
    run = client.get_run(summary.mlflow_run_id)
    return list(client.search_logged_models([run.info.experiment_id], f"source_run_id = '{summary.mlflow_run_id}'"))


def versions_of(summary: Summary) -> list[Any]:
    found = MlflowClient().search_model_versions("name LIKE 'captioner-%'")
    return [version for version in found if version.run_id == summary.mlflow_run_id]


def points(summary: Summary, metric: str) -> list[tuple[int, int, float]]:
    return sorted(
        (m.step, m.timestamp, m.value) for m in MlflowClient().get_metric_history(summary.mlflow_run_id, metric)
    )


def everything(summary: Summary) -> dict[str, Any]:
    client = MlflowClient()
    run = client.get_run(summary.mlflow_run_id)
    metrics = [name for name in run.data.metrics if not name.startswith("system/")]
    return {
        "points": {name: points(summary, name) for name in metrics},
        "params": run.data.params,
        "inputs": sorted(i.dataset.name + i.dataset.digest for i in run.inputs.dataset_inputs),
        "tables": sorted(
            item.path
            for place in ("captions", "heldout")
            for item in client.list_artifacts(summary.mlflow_run_id, place)
        ),
        "prompts": json.loads(run.data.tags["mlflow.linkedPrompts"]),
        "models": sorted(model.model_id for model in models_of(summary)),
        "versions": sorted((version.name, version.version) for version in versions_of(summary)),
    }


# --- MLflow -----------------------------------------------------------------------------------------------------------


def test_mlflow_holds_one_finished_run_with_the_whole_recipe(first: Summary, recipe: Recipe, root: str) -> None:
    (run,) = runs_of(root)
    assert run.info.run_id == first.mlflow_run_id
    assert (run.info.run_name, run.info.status) == ("tracked", "FINISHED")
    assert run.data.tags["racro.recipe_digest"] == recipe_digest(recipe) == first.recipe_digest
    assert run.data.tags["prefect.flow_run_id"] == first.prefect_flow_run_id
    assert first.prefect_flow_run_id in run.data.tags["prefect.flow_run_url"]
    expected = {"seed": "77", "update.learning_rate": "0.0005", "captioner.model": "embedded", "problems.count": "64"}
    assert expected.items() <= run.data.params.items()
    leaves = [f"{k}.{n}" for k, section in recipe.model_dump().items() if isinstance(section, dict) for n in section]
    assert all(any(param == leaf or param.startswith(f"{leaf}.") for param in run.data.params) for leaf in leaves)


def test_metrics_come_by_iteration_with_the_seconds_of_every_stage(first: Summary) -> None:
    for metric in (
        "compose/reward_mean",
        "compose/reward_stderr",
        "reward/answer/mean",
        "reward/answer/verdict_correct",
        "caption/tokens_mean",
        "update/steps",
        "update/loss",
        "update/kl",
        "update/logprob_gap",
        "caption/seconds",
        "reward/answer/seconds",
        "compose/seconds",
        "update/seconds",
    ):
        assert [step for step, _, _ in points(first, metric)] == [0, 1], metric
    for metric in ("heldout/accuracy", "heldout/accuracy_stderr", "heldout/truthful"):
        assert [step for step, _, _ in points(first, metric)] == [0, 1, 2], metric
    accuracy = [value for _, _, value in points(first, "heldout/accuracy")]
    assert (accuracy[0], accuracy[-1]) == (first.base.accuracy, first.final.accuracy)
    assert all(
        value > 0
        for stage in ("caption", "reward/answer", "update")
        for _, _, value in points(first, f"{stage}/seconds")
    )


def test_metrics_are_those_of_the_records_and_carry_the_time_they_were_made(first: Summary, root: str) -> None:
    records = [artifacts.read_record(str(folder)) for folder in (Path(root) / "artifacts" / "update").iterdir()]
    made = sorted((int(record.finished * 1000), record.metrics["kl"]) for record in records if record is not None)
    assert [(when, value) for _, when, value in points(first, "update/kl")] == made


def test_who_waited_until_an_engine_was_open_has_it_in_its_record(first: Summary, root: str) -> None:
    records = [json.loads(file.read_text()) for file in Path(root).glob("artifacts/*/*/record.json")]
    opened = Counter((name, one["stage"]) for one in records for name in one["metrics"] if name.startswith("opening_"))
    assert opened == {
        ("opening_captioner_seconds", "parity"): 1,
        ("opening_trainer_seconds", "update"): 1,
        ("opening_reasoner_seconds", "answer"): 1,
    }


def test_both_data_sets_are_inputs_of_the_run(first: Summary, root: str) -> None:
    inputs = MlflowClient().get_run(first.mlflow_run_id).inputs.dataset_inputs
    found = {i.dataset.name: i for i in inputs}
    assert set(found) == {"problems-training", "problems-heldout"}
    for name, data in found.items():
        context = {tag.key: tag.value for tag in data.tags}["mlflow.data.context"]
        assert name == f"problems-{context}"
        assert json.loads(data.dataset.source)["uri"].startswith(f"{root}/artifacts/prepare/")
    profile = json.loads(found["problems-heldout"].dataset.profile)
    assert (profile["rows"], profile["problems"], profile["unusable"]) == (8, 8, {})


def test_sample_captions_with_verdicts_are_a_table_of_each_iteration(first: Summary) -> None:
    client = MlflowClient()
    experiment = client.get_run(first.mlflow_run_id).info.experiment_id
    table = client.load_table(experiment, "captions/iteration-0001.json", [first.mlflow_run_id])
    asked, scored = ["question", "gold answer"], ["reward answer"]
    assert list(table.columns) == ["uid", "sample", "caption", "response", "verdict", "reward", *asked, *scored]
    assert len(table) == 32 and set(table["sample"]) == {0, 1, 2, 3}
    assert set(table["verdict"]) <= {"correct", "wrong", "unparsed", "truncated", "failed"}
    captions = [f"captions/iteration-000{k}.json" for k in (0, 1)]
    assert everything(first)["tables"] == [*captions, *(f"heldout/iteration-000{k}.json" for k in (0, 1, 2))]


def test_heldout_problems_are_a_table_with_images_for_each_evaluation(first: Summary, tmp_path: Path) -> None:
    client = MlflowClient()
    copy = client.download_artifacts(first.mlflow_run_id, "heldout/iteration-0002.json", str(tmp_path))
    table = json.loads(Path(copy).read_text())
    assert table["columns"] == ["image", "question", "gold answer", "caption", "response", "verdict"]
    assert len(table["data"]) == 8
    for image, question, gold, *_ in table["data"]:
        assert question and gold and image["type"] == "image"
        file = client.download_artifacts(first.mlflow_run_id, image["filepath"], str(tmp_path))
        assert Image.open(file).format == "PNG"


def test_prompts_of_the_recipe_are_registered_and_belong_to_the_run(first: Summary) -> None:
    linked = everything(first)["prompts"]
    assert {one["name"] for one in linked} == {"racro-caption", "racro-answer-from-caption"}
    for one in linked:
        prompt = MlflowClient().get_prompt_version(one["name"], one["version"])
        assert prompt is not None and "{{question}}" in json.dumps(prompt.template)


def test_run_experiment_model_and_versions_say_what_they_are(first: Summary) -> None:
    client = MlflowClient()
    run = client.get_run(first.mlflow_run_id)
    note = run.data.tags["mlflow.note.content"]
    assert f"{first.base.share.percent} % → {first.final.share.percent} %" in note and "problems.count | 64" in note
    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    last = max(versions_of(first), key=lambda version: int(version.version))
    assert last.name.startswith("captioner-for-embedded-") and first.final.share.percent in last.description
    assert "frozen reasoner `embedded`" in client.get_registered_model(last.name).description


def test_a_registered_model_that_was_made_before_keeps_its_name(first: Summary) -> None:
    judge = registry.Judge(FrozenModel(uri="u", rows=0, digest="older"), ProblemTable(uri="u", rows=2, digest="older"))
    MlflowClient().create_registered_model(f"captioner-{judge.digest}")
    assert registry.model_for(MlflowClient(), judge, "embedded") == f"captioner-{judge.digest}"


def test_tensorboard_holds_the_points_that_mlflow_holds(first: Summary, recipe: Recipe) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(home() / "tensorboard" / "tracked")).Reload()
    assert {"compose/reward_mean", "heldout/accuracy", "update/kl"} <= {*found.Tags()["scalars"]}
    for name in found.Tags()["scalars"]:
        mirrored = [(event.step, event.value) for event in found.Scalars(name)]
        recorded = [(step, pytest.approx(value, rel=1e-6)) for step, _, value in points(first, name)]
        assert mirrored == recorded, name


def test_report_recipe_and_summary_are_artifacts_of_the_run(first: Summary, recipe: Recipe, tmp_path: Path) -> None:
    client = MlflowClient()
    files = {item.path for item in client.list_artifacts(first.mlflow_run_id)}
    assert {"recipe.yaml", "report.html", "curve.png", "summary.json", "captions", "heldout"} <= files
    copy = client.download_artifacts(first.mlflow_run_id, "recipe.yaml", str(tmp_path))
    assert loading.load(copy) == recipe
    copy = client.download_artifacts(first.mlflow_run_id, "summary.json", str(tmp_path))
    assert Summary.model_validate_json(Path(copy).read_text()).policy == first.policy


def test_every_evaluated_policy_is_a_logged_model_with_its_metrics_on_its_data(first: Summary) -> None:
    models = {model.tags["racro.iteration"]: model for model in models_of(first)}
    assert sorted(models) == ["0", "1", "2"]
    inputs = MlflowClient().get_run(first.mlflow_run_id).inputs.dataset_inputs
    heldout = next(i.dataset for i in inputs if i.dataset.name == "problems-heldout")
    for iteration, model in models.items():
        (accuracy,) = (metric for metric in model.metrics if metric.key == "heldout/accuracy")
        assert accuracy.step == int(iteration)
        assert (accuracy.dataset_name, accuracy.dataset_digest) == (heldout.name, heldout.digest)
        assert f"{accuracy.value:.6f}" == model.tags["racro.accuracy"]
        assert model_digest(Path(model.tags["racro.policy_uri"])) == model.tags["racro.policy"]
        assert str(model.status) == "READY"
    assert models["2"].tags["racro.policy"] == first.policy.digest


def test_versions_of_one_registered_model_and_the_champion_is_the_best(first: Summary) -> None:
    versions = versions_of(first)
    assert len(versions) == 3 and len({version.name for version in versions}) == 1
    champion = MlflowClient().get_model_version_by_alias(versions[0].name, CHAMPION)
    best = max(float(version.tags["racro.accuracy"]) for version in versions)
    assert float(champion.tags["racro.accuracy"]) == best
    assert {version.source for version in versions} == {f"models:/{model.model_id}" for model in models_of(first)}


def test_running_again_adds_no_run_no_point_no_table_no_model_and_no_version(
    snapshot: dict[str, Any], again: Summary, root: str
) -> None:
    assert len(runs_of(root)) == 1
    assert everything(again) == snapshot
    assert all(
        len(set(steps)) == len(steps) for name in snapshot["points"] if (steps := [p[0] for p in points(again, name)])
    )


def test_a_worse_policy_does_not_take_the_crown_and_a_better_one_does(first: Summary) -> None:
    run_id = first.mlflow_run_id
    heldout = ProblemTable(uri="memory://none", rows=2, digest="crown-test" * 4)
    judge = registry.Judge(FrozenModel(uri="none", rows=0, digest="r"), heldout)
    holders = []
    for iteration, accuracy in enumerate([0.5, 0.4, 0.5, 0.75, 0.6]):
        policy = Policy(uri=f"p{iteration}", rows=0, digest=f"crown-{iteration}")
        entry = EntryTable(uri="e", rows=1, digest=f"e{iteration}")
        score = Score(accuracy=accuracy, stderr=0.1, n=2, truthful=None, states_asked=None, leaks=None)
        for _ in range(2):  # as a retried task would
            track.log_evaluation.__wrapped__(
                run_id,
                100 + iteration,
                1.0 + iteration,
                policy,
                judge,
                "none",
                entry,
                score,
                {"crown/a": accuracy},
            )
        track.close_run.__wrapped__(run_id, {})
        (name,) = {v.name for v in versions_of(first) if v.tags["racro.policy"].startswith("crown-")}
        holders.append(MlflowClient().get_model_version_by_alias(name, CHAMPION).tags["racro.policy"])
    assert holders == ["crown-0", "crown-0", "crown-0", "crown-3", "crown-3"]
    assert len([v for v in versions_of(first) if v.name == name]) == 5
    assert len(points(first, "crown/a")) == 5


# --- Prefect ----------------------------------------------------------------------------------------------------------


def task_runs(flow_run: str) -> dict[str, TaskRun]:
    with get_client(sync_client=True) as client:
        found = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run])))
    return {run.name: run for run in found}


EVALUATION = {"describe": " 1/1", "answer": ", caption 1/1", "grade": ", caption", "aggregate": ", caption"}
STAGE_RUNS = {
    "prepare training problems",
    "prepare held-out problems",
    *(f"{stage} {k}" for stage in ("caption", "reward answer", "compose", "update") for k in (0, 1)),
    *(f"{stage} heldout{what}, iteration {k}" for stage, what in EVALUATION.items() for k in (0, 1, 2)),
}


def test_prefect_holds_the_flow_run_with_its_stages_by_iteration(first: Summary) -> None:
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(first.prefect_flow_run_id)  # type: ignore[arg-type]
    assert flow_run.name == "tracked" and flow_run.state is not None and flow_run.state.is_completed()
    assert flow_run.parameters["recipe"]["seed"] == 77
    found = task_runs(first.prefect_flow_run_id)
    assert set(found) >= STAGE_RUNS
    assert Counter(found[name].state_name for name in STAGE_RUNS) == {"Completed": len(STAGE_RUNS)}
    assert all(run.run_count == 1 for run in found.values())


def test_on_the_second_run_every_stage_is_cached(first: Summary, again: Summary) -> None:
    assert again.prefect_flow_run_id != first.prefect_flow_run_id
    found = task_runs(again.prefect_flow_run_id)
    assert Counter(found[name].state_name for name in STAGE_RUNS) == {"Cached": len(STAGE_RUNS)}
    keys = {name: run.cache_key for name, run in task_runs(first.prefect_flow_run_id).items() if name in STAGE_RUNS}
    assert keys == {name: found[name].cache_key for name in STAGE_RUNS}


def test_prefect_shows_the_result_and_samples(first: Summary) -> None:
    found = artifacts_of(str(first.prefect_flow_run_id))
    kinds = {"curve": "image", "captions": "markdown", "training": "progress"}
    kinds |= dict.fromkeys(("report", "recipe", "mlflow-run"), "markdown")  # Prefect keeps a link as Markdown
    assert {key: found[key].type for key in kinds} == kinds
    assert str(found["curve"].data).startswith("data:image/png;base64,") and found["training"].data == 100.0
    page = str(found["captions"].data)
    assert "data:image/png;base64," in page and "gold answer **" in page
    assert found["training-summary"].type == "markdown"
    markdown = str(found["training-summary"].data)
    assert first.final.share.percent in markdown and first.final.share.range in markdown
    assert "data:image/png;base64," in markdown and first.policy.uri in markdown
    samples = json.loads(str(found["heldout-samples"].data))
    assert 0 < len(samples) <= 8
    assert set(samples[0]) == {
        "question",
        "answer",
        "caption before",
        "verdict before",
        "caption after",
        "verdict after",
    }


def test_while_it_runs_both_show_how_far_it_is(first: Summary, onlooker: Onlooker) -> None:
    early, late = (onlooker.seen[number] for number in (0, 1))
    for seen, percent in ((early, 0.0), (late, 50.0)):
        assert seen["state"] == "Running"
        assert seen["shown"]["training"].data == percent
        assert {"report.html", "curve.png", "recipe.yaml"} <= seen["files"]
        assert seen["pages"] and all(seen["pages"].values()), seen["pages"]
    curves = [seen["shown"]["curve"] for seen in (early, late)]
    assert curves[0].id == curves[1].id and curves[0].data != curves[1].data, "one picture, renewed"
    assert "captions" not in early["shown"] and "gold answer **" in str(late["shown"]["captions"].data)


def test_each_iteration_is_an_event_with_its_figures(first: Summary) -> None:
    wanted = {
        "event": {"name": [events.ITERATION]},
        "related": {"id": [f"prefect.flow-run.{first.prefect_flow_run_id}"]},
    }

    def found() -> list[dict[str, Any]]:
        with get_client(sync_client=True) as client:
            answer = client.request("POST", "/events/filter", json={"filter": wanted})
        return [event["payload"] for event in answer.raise_for_status().json()["events"]]

    assert eventually(lambda: len(found()) == 2), found()
    told = sorted(found(), key=lambda payload: payload["iteration"])
    assert [payload["iteration"] for payload in told] == [1, 2]
    assert {(payload["run"], payload["of"], payload["n"]) for payload in told} == {("tracked", 2, 8)}
    assert told[-1]["accuracy"] == pytest.approx(first.final.accuracy)


# --- failure ----------------------------------------------------------------------------------------------------------


def test_commands_that_start_at_once_make_one_store_and_one_run(recipe: Recipe, tmp_path: Path) -> None:
    """In a new folder. A database that two had made at once stayed broken."""
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    command = [sys.executable, "-c", BEGIN, str(tmp_path / "recipe.json"), str(tmp_path)]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store, "RACRO_HOME": str(tmp_path)}
    commands = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate(timeout=300)[0].strip() for one in commands]
    assert [one.returncode for one in commands] == [0, 0]
    [run] = {*said}
    assert MlflowClient(store).get_run(run).info.run_name == "twin"


def test_a_failed_run_is_marked_and_the_next_attempt_takes_it_up(tmp_path: Path) -> None:
    place = str(tmp_path)
    never = "{type: scripted, rules: [{replies: [unknown], delay: 3600}]}"
    quick = ("iterations=1", "evaluation.problems=2", "captioner.engine={type: scripted, rules: [{replies: [bars]}]}")
    broken = loading.load(EMBEDDED_RECIPE, [*TINY, *quick, f"reasoner.engine={never}", "runtime.request_deadline=0.01"])
    with pytest.raises(RuntimeError, match="heldout: none of 2 texts"):
        train(broken, run="mended", root=place)
    (failed,) = runs_of(place)
    assert failed.info.status == "FAILED"
    never_mind = "{type: scripted, rules: [{replies: [unknown], delay: 0.02}]}"
    patient = loading.load(
        EMBEDDED_RECIPE, [*TINY, *quick, f"reasoner.engine={never}", "runtime.request_deadline=0.02"]
    )
    with pytest.raises(RuntimeError, match="heldout: none of 2 texts"):  # another machine, the same training
        train(patient, run="mended", root=place)
    assert [run.info.run_id for run in runs_of(place)] == [failed.info.run_id]
    mended = loading.load(EMBEDDED_RECIPE, [*TINY, *quick, f"reasoner.engine={never_mind}"])
    train(mended, run="another", root=place)  # another reasoner: another training, which takes another name
    assert Counter(run.info.status for run in runs_of(place)) == {"FAILED": 1, "FINISHED": 1}
