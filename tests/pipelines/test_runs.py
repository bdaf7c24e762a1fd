"""`racro runs` on two trainings that share their beginning: what is said of them, another name, and what may go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.run_records import NoRun
from flows.rehearsal import rehearse
from flows.training import train
from racro.config import Recipe, loading
from racro.storage import usage
from racro.storage.runs import NameTaken
from racro.summary import Summary
from tests.conftest import EMBEDDED_RECIPE, TINY

FEW = ("evaluation.problems=8", "rollout.problems=4", "rollout.group_size=2", "update.mini_batch=2")
SETS = [part for key in (*TINY, *FEW) for part in ("--set", key)]


def recipe(*overrides: str) -> Recipe:
    return loading.load(EMBEDDED_RECIPE, [*TINY, *FEW, *overrides])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> str:
    """Two trainings: the second updates otherwise, so that they share problems, first captions and first answers."""
    root = str(tmp_path_factory.mktemp("runs") / "root")
    train(recipe(), run="first", root=root)
    train(recipe("update.learning_rate=1e-3"), run="second", root=root)
    return root


def said(*arguments: str) -> str:
    """What a command prints. Raises what it raised."""
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_list_and_show_say_what_each_run_is(root: str) -> None:
    rows = {row["run"]: row for row in json.loads(said("runs", "list", "--root", root, "--json"))}
    summary = Summary.model_validate_json(Path(root, "first", "summary.json").read_text())
    first = rows["first"]
    assert (first["kind"], first["state"], first["iterations"]) == ("training", "finished", 2)
    assert (first["accuracy"], first["stderr"], first["n"]) == (
        summary.final.accuracy,
        summary.final.stderr,
        summary.final.n,
    )
    assert first["recipe"] == summary.recipe_digest[:8] and first["bytes"] > 10_000
    table = said("runs", "list", "--root", root)
    assert all(name in table for name in rows) and summary.final.share.percent in table
    page = said("runs", "show", "second", "--root", root)
    assert "learning_rate: 0.001" in page and "seed" not in page


def test_compare_names_what_differs_and_the_error_of_the_difference(root: str) -> None:
    found = json.loads(said("runs", "compare", "first", "second", "--root", root, "--json"))
    assert found["recipes"] == {"update.learning_rate": {"first": 0.0005, "second": 0.001}}
    shares, gain = found["accuracy"], found["gains"]["second"]
    assert gain["value"] == pytest.approx(shares["second"]["value"] - shares["first"]["value"])
    assert gain["stderr"] == pytest.approx((shares["first"]["stderr"] ** 2 + shares["second"]["stderr"] ** 2) ** 0.5)
    assert "update.learning_rate" in said("runs", "compare", "first", "second", "--root", root)


def test_the_plan_of_a_finished_run_runs_nothing_and_that_of_another_one_knows_its_bytes(root: str) -> None:
    """The second run wrote what its plan says that a third one, which updates otherwise again, will write."""
    calls = {rate: rehearse(recipe(f"update.learning_rate={rate}"), root) for rate in (5e-4, 1e-3, 2e-3)}
    on_root = {one.folder.removeprefix(f"{root}/") for one in usage.find(root)}
    assert {call.key for call in calls[5e-4] + calls[1e-3]} == on_root, "the same stages with the same inputs"
    finished = json.loads(said("plan", EMBEDDED_RECIPE, *SETS, "--root", root, "--json"))
    assert all(part["runs"] == 0 for part in finished["parts"]) and finished["seconds"] == finished["bytes"] == 0
    assert "Nothing would run" in said("plan", EMBEDDED_RECIPE, *SETS, "--root", root)

    third = json.loads(
        said("plan", EMBEDDED_RECIPE, *SETS, "--set", "update.learning_rate=2e-3", "--root", root, "--json")
    )
    own = {call.key for call in calls[1e-3]} - {call.key for call in calls[5e-4]}
    files = usage.files(root)
    written = sum(sum(files[f"{root}/{key}"].values()) for key in own)
    assert third["bytes"] == pytest.approx(written, rel=0.05)
    assert sum(part["runs"] for part in third["parts"]) == len(own) == sum(call.record is None for call in calls[2e-3])
    assert third["seconds"] > 0 and not third["unknown"]


@pytest.mark.parametrize(
    ("arguments", "error", "line"),
    [
        (["show", "third"], NoRun, "third: no run under .* has this name"),
        (["compare", "first"], NoRun, "one run cannot be compared"),
        (["rename", "first", "second"], NameTaken, "second: .* has such a run already"),
        (["remove", "first"], NoRun, "--yes: nobody is here to be asked"),
    ],
)
def test_what_cannot_be_done_is_one_line(root: str, arguments: list[str], error: type[Exception], line: str) -> None:
    with pytest.raises(error, match=line):
        CliRunner().invoke(app, ["runs", *arguments, "--root", root], catch_exceptions=False)


def test_a_renamed_run_goes_on_and_what_is_removed_was_used_by_no_other(root: str) -> None:
    before = Summary.model_validate_json(Path(root, "first", "summary.json").read_text())
    said("runs", "rename", "first", "older", "--root", root)
    assert not Path(root, "first").exists()
    again = train(recipe(), run="older", root=root)
    assert again.mlflow_run_id == before.mlflow_run_id
    assert MlflowClient().get_run(again.mlflow_run_id).info.run_name == "older"

    all_before = usage.find(root)
    planned = said("runs", "remove", "second", "--root", root, "--dry-run")
    assert "of stage update" in planned and usage.find(root) == all_before, "a dry run removes nothing"
    said("runs", "remove", "second", "--root", root, "--yes")
    gone = {one.folder for one in all_before} - {one.folder for one in usage.find(root)}
    assert gone and not Path(root, "second").exists()
    assert sum(total.executed for total in train(recipe(), run="older", root=root).stages.values()) == 0

    client = MlflowClient()
    for model in client.search_registered_models("name LIKE 'captioner-%'"):
        client.delete_registered_model_alias(model.name, "champion")
    said("runs", "remove", "older", "--root", root, "--yes")
    assert usage.find(root) == [] and json.loads(said("runs", "list", "--root", root, "--json")) == []
