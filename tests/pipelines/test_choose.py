"""Which policy an evaluation is about: what is none is said before anything else is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from flows.evaluation import evaluate
from flows.training import train
from racro.config import loading
from tasks.choose import NoPolicy, policy
from tasks.recording import registry, runs
from tasks.running.stages import Stages
from tasks.running.stopping import Stopped
from tests.conftest import EMBEDDED_RECIPE, TINY

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_what_is_no_policy_costs_no_preparation(tmp_path: Path) -> None:
    client = MlflowClient()
    for model in client.search_registered_models("name LIKE 'captioner-%'"):
        client.delete_registered_model_alias(model.name, "champion")
    recipe = loading.load(EMBEDDED_RECIPE, TINY)
    for which, line in (("champion", "holds none for this recipe's reasoner"), ("nobody", "no policy is there")):
        with pytest.raises(NoPolicy, match=f"policy {which}: .*{line}"):
            evaluate(recipe, which, run="mine", root=str(tmp_path))
    assert not (tmp_path / "mine").exists(), "the name is free for the policy that was meant"
    assert not (tmp_path / "artifacts" / "prepare").exists()


def test_every_champion_counts_however_many_models_are_registered(tmp_path: Path) -> None:
    """Their checkpoints stay when others are pruned; MLflow shows a hundred models at a time."""
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    for number in range(205):
        client.create_registered_model(name := f"captioner-{number:03}")
        if number in (0, 150, 204):
            client.create_model_version(name, str(tmp_path), tags={"racro.policy": f"policy {number}"})
            client.set_registered_model_alias(name, "champion", "1")
    assert runs.champions(client) == {"policy 0", "policy 150", "policy 204"}


def test_a_champion_that_was_deleted_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri := f"sqlite:///{tmp_path}/mlflow.db")
    client = MlflowClient(uri)
    client.create_registered_model("captioner-for-one-00000000")
    tags = {"racro.policy": "0" * 64, "racro.policy_uri": f"{tmp_path}/gone", "racro.accuracy": "0.5"}
    client.create_model_version("captioner-for-one-00000000", str(tmp_path), tags=tags)
    client.set_registered_model_alias("captioner-for-one-00000000", "champion", "1")
    with pytest.raises(NoPolicy, match=r"policy champion: its files are not there any more .*/gone"):
        policy("champion", None, str(tmp_path))


def test_a_policy_of_a_run_that_was_stopped_is_no_champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It becomes one when the same command has ended the run."""
    recipe = loading.load(EMBEDDED_RECIPE, [*TINY, "evaluation.problems=11", "evaluation.every=1"])
    run = Stages.run

    def stop(self: Stages, task: Any, run_name: str, *args: Any, **inputs: Any) -> Any:
        if run_name == "update 1":
            raise Stopped
        return run(self, task, run_name, *args, **inputs)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Stages, "run", stop)
        train(recipe, run="stopped", root=str(tmp_path))
    judged = [
        one
        for one in MlflowClient().search_model_versions()
        if one.tags.get("racro.policy_uri", "").startswith(str(tmp_path))
    ]
    assert judged and not any(one.aliases for one in judged)
    with pytest.raises(NoPolicy, match="policy champion: "):
        policy("champion", recipe, str(tmp_path))
    ended = train(recipe, run="stopped", root=str(tmp_path))
    best = policy("champion", recipe, str(tmp_path))
    assert ended.final.accuracy <= ended.base.accuracy or best.digest == ended.policy.digest


def test_a_server_that_fails_has_not_said_that_there_is_no_champion(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MlflowException("the database is away")  # INTERNAL_ERROR, as of a lost connection

    client = MlflowClient()
    assert registry.champion(client, "captioner-nobody") is None
    monkeypatch.setattr(MlflowClient, "get_model_version_by_alias", fail)
    with pytest.raises(MlflowException, match="away"):
        registry.champion(client, "captioner-nobody")
