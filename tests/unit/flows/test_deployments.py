"""flows/prefect.yaml against the code that it names: flows, recipes, queues. On a server: test_station."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.cli.deploy._models import PrefectYamlModel
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from flows.station import registration
from racro.config import loading
from tests.conftest import EMBEDDED_RECIPE

CONTENT = registration.deployments()
DEPLOYMENTS: list[dict[str, Any]] = CONTENT["deployments"]
SCHEDULES = [schedule for deployment in DEPLOYMENTS for schedule in deployment.get("schedules", [])]


def test_prefect_reads_the_file_and_every_key_of_it() -> None:
    model = PrefectYamlModel.model_validate(CONTENT)
    known = {"prepare", "train", "train-full", "evaluate", "profile", "sweep", "answer-batch", "prune"}
    assert {one.name for one in model.deployments} == known
    for read, written in zip(model.deployments, DEPLOYMENTS, strict=True):
        assert written.keys() == read.model_dump(exclude_unset=True).keys()


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_a_deployment_names_a_flow_of_that_name_and_gives_it_valid_parameters(deployment: dict[str, Any]) -> None:
    assert ":" not in deployment["entrypoint"], "a file entrypoint loads a second copy of the module"
    flow = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    assert flow.name == deployment["name"].removesuffix("-full")
    missing = set(parameter_schema(flow).required) - set(deployment["parameters"])
    assert missing == ({"questions", "answers"} if flow.name == "answer-batch" else set())
    if deployment["name"] == registration.FULL:
        assert loading.parse(deployment["parameters"]["recipe"], flow.name) == loading.load(EMBEDDED_RECIPE)
    elif flow.name != "prune":
        assert loading.read(deployment["parameters"]["recipe"]) == loading.load(EMBEDDED_RECIPE)


def test_every_deployment_states_queue_and_collision_strategy_and_can_be_resumed() -> None:
    for deployment in DEPLOYMENTS:
        assert deployment["work_pool"]["work_queue_name"] in registration.QUEUES
        assert deployment["concurrency_limit"]["collision_strategy"] in ("ENQUEUE", "CANCEL_NEW")
        assert deployment["enforce_parameter_schema"] is True
        assert registration.TAG in deployment["tags"]


def test_schedules_are_off_and_have_names_by_which_they_stay_on() -> None:
    assert {schedule["slug"] for schedule in SCHEDULES} == {"weekly", "nightly"}
    assert not any(schedule["active"] for schedule in SCHEDULES)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_every_field_of_the_form_says_what_it_is(deployment: dict[str, Any]) -> None:
    schema = parameter_schema(load_flow_from_entrypoint(deployment["entrypoint"])).model_dump_for_openapi()
    unsaid = [name for name, field in schema["properties"].items() if not field.get("description")]
    models = {name: model for name, model in schema["definitions"].items() if model["type"] == "object"}
    unsaid += [
        f"{name}.{key}"
        for name, model in models.items()
        for key, field in model["properties"].items()
        if not field.get("description") and "const" not in field
    ]
    assert unsaid == []


def test_bounds_and_choices_of_the_recipe_are_those_of_the_form() -> None:
    [full] = [one for one in DEPLOYMENTS if one["name"] == registration.FULL]
    schema = parameter_schema(load_flow_from_entrypoint(full["entrypoint"])).model_dump_for_openapi()
    models = schema["definitions"]
    assert models["UpdateSettings"]["properties"]["learning_rate"]["minimum"] == 0
    assert models["Captioner"]["properties"]["dtype"]["enum"] == ["float32", "bfloat16", "float16"]


@pytest.mark.parametrize("name", ["prepare", "train", "evaluate"])
def test_a_form_begins_with_recipe_run_root_and_overrides(name: str) -> None:
    [chosen] = [one for one in DEPLOYMENTS if one["name"] == name]
    schema = parameter_schema(load_flow_from_entrypoint(chosen["entrypoint"])).model_dump_for_openapi()
    fields = sorted(schema["properties"], key=lambda field: schema["properties"][field]["position"])
    assert fields[:4] == ["recipe", "run", "root", "overrides"]
    assert schema["properties"]["recipe"]["type"] == "string"
