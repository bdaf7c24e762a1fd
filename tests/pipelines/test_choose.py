"""Which policy an evaluation is about: what is none is said before anything else is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows.evaluation import evaluate
from racro.config import loading
from tasks.choose import NoPolicy
from tests.conftest import EMBEDDED_RECIPE, TINY

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_what_is_no_policy_costs_no_preparation(tmp_path: Path) -> None:
    client = MlflowClient()
    for model in client.search_registered_models("name LIKE 'captioner-%'"):
        client.delete_registered_model_alias(model.name, "champion")
    recipe = loading.load(EMBEDDED_RECIPE, TINY)
    for policy, line in (("champion", "holds none for this recipe's reasoner"), ("nobody", "no policy is there")):
        with pytest.raises(NoPolicy, match=f"--policy {policy}: .*{line}"):
            evaluate(recipe, policy, root=str(tmp_path))
    assert not (tmp_path / "artifacts" / "prepare").exists()
