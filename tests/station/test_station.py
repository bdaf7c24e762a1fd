"""`racro up`, its deployments and `racro down`, with real servers and a real worker, used as the UI uses them."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from flows.station.registration import QUEUES
from racro.embedded import world
from tests.support.eventually import eventually
from tests.support.workplace import Workplace, tiny

LONG = "evaluation.problems=10000"
"""Held-out problems that take the second stage of `prepare` some seconds."""
GPUS = ["3", "4"]
"""Of the station's two workers; that this machine has them is not needed."""
NAMES = ("answer-batch", "evaluate", "prepare", "profile", "prune", "sweep", "train", "train-full")


@pytest.fixture(scope="module")
def trained(place: Workplace) -> dict[str, Any]:
    """A flow run that was triggered by the API and executed by the worker."""
    return place.wait(place.start("train", recipe=tiny(), run="first"))


@pytest.fixture(scope="module")
def lost(place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A flow run whose machine is gone, as a pod of a cluster may be: killed, and no worker here had it.

    Its working directory is empty, as a pod's is: `prefect flow-run execute` imports flows from there first.
    """
    identity = place.deployment("prepare")["id"]
    parameters = {"recipe": tiny(LONG, "seed=6"), "root": str(place.folder / "runs")}
    content = {"parameters": parameters, "state": {"type": "PENDING", "name": "Pending"}}
    answer = place.post(f"/deployments/{identity}/create_flow_run", **content)
    run = str(answer.raise_for_status().json()["id"])
    with place.prefect(tmp_path_factory.mktemp("pod"), "flow-run", "execute", run):
        assert eventually(lambda: 6 in prepared(place)), place.log(run)  # it is in the second stage
    assert place.get(f"/flow_runs/{run}")["state"]["type"] == "RUNNING"
    return run


@pytest.mark.usefixtures("lost")
def test_servers_answer_on_loopback_and_nowhere_else(place: Workplace) -> None:
    assert httpx.get(f"{place.api}/health").status_code == 200
    assert httpx.get(f"{place.mlflow}/health").status_code == 200
    connections = (c for process in place.processes() for c in process.net_connections("inet"))
    listening = {c.laddr for c in connections if c.status == psutil.CONN_LISTEN}
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert {*place.ports} <= {address.port for address in listening}


def test_up_twice_changes_nothing_and_leaves_a_schedule_on_that_was_switched_on(place: Workplace) -> None:
    deployment = place.deployment("evaluate")
    [schedule] = deployment["schedules"]
    assert (schedule["slug"], schedule["active"]) == ("nightly", False)
    path = f"{place.api}/deployments/{deployment['id']}/schedules/{schedule['id']}"
    httpx.patch(path, json={"active": True}).raise_for_status()
    before = place.station(), registered(place)
    again = place.up()
    assert again.returncode == 0, again.stderr
    assert f":{place.ports[0]}" in again.stdout and f":{place.ports[1]}" in again.stdout
    assert all(f"{name.removesuffix('-full')}/{name}" in again.stdout for name in NAMES)
    assert (place.station(), registered(place)) == before
    [kept] = place.deployment("evaluate")["schedules"]
    assert kept["active"] is True
    httpx.patch(f"{path.rpartition('/')[0]}/{kept['id']}", json={"active": False}).raise_for_status()
    queues = place.post("/work_pools/racro/queues/filter").json()
    by_priority = [queue["name"] for queue in sorted(queues, key=lambda queue: queue["priority"])]
    assert [name for name in by_priority if name in (*QUEUES, "default")] == [*QUEUES, "default"]
    assert {*NAMES} <= {*registered(place)}


def registered(place: Workplace) -> list[str]:
    """Names of all deployments and automations, sorted."""
    return sorted(
        one["name"] for kind in ("deployments", "automations") for one in place.post(f"/{kind}/filter").json()
    )


def test_up_with_other_options_says_that_a_station_runs(place: Workplace) -> None:
    done = place.up("--workers", "1", "--gpus", "3")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"racro: .* another workers, gpus; `racro down` first\n", done.stderr)


@pytest.mark.parametrize("gpus", ["0,0", "0,1,2", "all of them", "0,"])
def test_gpus_that_cannot_be_dealt_out_are_one_line(gpus: str, tmp_path: Path) -> None:
    done = Workplace(tmp_path / "other").up("--workers", "2", "--gpus", gpus)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"racro: --gpus {gpus}: ")


@pytest.mark.parametrize("option", ["--prefect-port", "--mlflow-port"])
def test_a_taken_port_is_one_line_and_leaves_nothing(option: str, tmp_path: Path) -> None:
    other = Workplace(tmp_path / "other")
    with socket.create_server(("127.0.0.1", other.ports[option == "--mlflow-port"])) as taken:
        done = other.up()
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"racro: {option} {taken_port(done.stderr)}: is taken by another program on 127.0.0.1;")
    assert taken is not None and not other.processes()


def taken_port(text: str) -> str:
    found = re.search(r"port (\d+)", text)
    assert found
    return found[1]


def test_the_full_form_is_the_recipe_with_bounds_choices_and_descriptions(place: Workplace) -> None:
    schema = place.deployment("train-full")["parameter_openapi_schema"]
    update = schema["definitions"]["UpdateSettings"]
    assert update["properties"]["clip_low"]["exclusiveMaximum"] == 1
    assert update["properties"]["clip_low"]["description"].startswith("PPO clip")
    assert update["additionalProperties"] is False
    assert schema["definitions"]["Captioner"]["properties"]["dtype"]["enum"] == ["float32", "bfloat16", "float16"]


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("update", "learning_rate", -1.0),
        ("rollout", "group_size", 1),
        ("captioner", "dtype", "float8"),
        ("evaluation", "problem", 10),
        ("reasoner", "max_tokens", "many"),
    ],
)
def test_a_bad_value_is_refused_by_the_api(place: Workplace, section: str, key: str, value: object) -> None:
    recipe = yaml.safe_load(tiny())
    recipe[section][key] = value
    answer = place.trigger("train-full", recipe=recipe)
    assert 400 <= answer.status_code < 500
    assert key in answer.text or str(value) in answer.text


def test_keys_that_contradict_each_other_fail_the_run_with_one_line(place: Workplace) -> None:
    """By the form that begins with a name, and by the one with every key. Bounds of single keys the API checks."""
    recipe = yaml.safe_load(tiny())
    recipe["update"]["mini_batch"] = 9
    runs = [
        place.start("train", recipe="smoke", overrides=["update.mini_batch=99"], run="by-name"),
        place.start("train-full", recipe=recipe, run="in-full"),
    ]
    for run, name in zip(runs, ("by-name", "in-full"), strict=True):
        done = place.wait(run)
        assert (done["state"]["type"], done["name"]) == ("FAILED", name)
        message = done["state"]["message"]
        assert "is larger than rollout.problems" in message and "\n" not in message
        assert eventually(lambda run=run, message=message: message in place.log(run)), "logs follow the state"
        assert "Traceback" not in place.log(run)


def test_a_triggered_run_does_what_the_command_does(place: Workplace, trained: dict[str, Any]) -> None:
    assert trained["state"]["type"] == "COMPLETED", place.log(trained["id"])
    assert trained["name"] == "first"
    summary = place.summary("first")
    assert summary["prefect_flow_run_id"] == trained["id"]
    run = httpx.get(f"{place.mlflow}/api/2.0/mlflow/runs/get", params={"run_id": summary["mlflow_run_id"]}).json()
    tags = {tag["key"]: tag["value"] for tag in run["run"]["data"]["tags"]}
    assert tags["prefect.flow_run_url"].startswith(f"http://127.0.0.1:{place.ports[0]}/")
    keys = {artifact["key"] for artifact in place.post("/artifacts/filter").json()}
    assert {"training-summary", "heldout-samples"} <= keys


def test_a_second_run_is_cached_on_the_command_line_too(place: Workplace, trained: dict[str, Any]) -> None:
    again = place.wait(place.start("train", recipe=tiny()))
    assert again["state"]["type"] == "COMPLETED"
    assert again["name"].startswith("racro-"), "a run without a name is named by its recipe"
    summary = place.summary(again["name"])
    assert sum(stage["executed"] for stage in summary["stages"].values()) == 0
    recipe = place.folder / "tiny.yaml"
    recipe.write_text(tiny())
    done = place.racro("train", "tiny.yaml", "--run", "by-hand")
    assert done.returncode == 0, done.stderr
    summary = place.summary("by-hand")
    assert sum(stage["executed"] for stage in summary["stages"].values()) == 0
    assert place.get(f"/flow_runs/{summary['prefect_flow_run_id']}")["name"] == "by-hand"


def test_the_champion_is_evaluated_and_answers_a_batch(place: Workplace, trained: dict[str, Any]) -> None:
    problem = world.problem("heldout", 0, 1)
    problem.images()[0].save(place.folder / "bars.png")
    lines = [
        {"id": "good", "images": "bars.png", "question": problem.question, "gold": problem.answer},
        {"id": "bad", "images": "missing.png", "question": "What?"},
    ]
    (place.folder / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    runs = {
        "prepare": place.start("prepare", recipe=tiny()),
        "evaluate": place.start("evaluate", recipe=tiny(), run="of-champion"),
        "answer-batch": place.start(
            "answer-batch", recipe=tiny(), questions="questions.jsonl", answers="answers.jsonl"
        ),
    }
    for name, run in runs.items():
        assert place.wait(run)["state"]["type"] == "COMPLETED", f"{name}: {place.log(run)}"
    summary = place.summary("of-champion")
    assert summary["score"]["n"] == 32
    assert Path(summary["policy"]["uri"]).is_dir()
    good, bad = map(json.loads, (place.folder / "answers.jsonl").read_text().splitlines())
    assert (good["id"], bad["id"]) == ("good", "bad")
    assert good["caption"] and good["verdict"] and "missing.png" in bad["error"]


def test_a_sweep_runs_on_a_worker(place: Workplace) -> None:
    plan = {"axes": ["update.learning_rate=2e-4"], "seeds": 1}
    done = place.wait(place.start("sweep", recipe=tiny("iterations=1"), plan=plan, run="rates"))
    assert done["state"]["type"] == "COMPLETED", place.log(done["id"])
    [best] = place.summary("rates")["ranking"]
    assert (best["rank"], best["finished"], best["values"]) == (1, 1, {"update.learning_rate": 2e-4})
    child = place.summary(best["children"][0])["prefect_flow_run_id"]
    assert place.get(f"/flow_runs/{child}")["state"]["type"] == "COMPLETED"


@pytest.mark.parametrize(("kind", "when", "problems"), [("interval", 5, 8), ("cron", "* * * * *", 9)])
def test_a_schedule_fires(kind: str, when: object, problems: int, place: Workplace) -> None:
    deployment = place.deployment("prepare")
    schedule = {kind: when, "timezone": "UTC"}
    recipe = tiny(f"evaluation.problems={problems}")
    created = httpx.post(
        f"{place.api}/deployments/{deployment['id']}/schedules",
        json=[{"schedule": schedule, "active": True, "parameters": {"recipe": recipe}, "slug": kind}],
    )
    [made] = created.raise_for_status().json()
    runs = {"deployment_id": {"any_": [deployment["id"]]}, "state": {"type": {"any_": ["COMPLETED"]}}}
    runs["tags"] = {"all_": ["auto-scheduled"]}

    def fired() -> bool:
        found = place.post("/flow_runs/filter", flow_runs=runs).json()
        recipes = (yaml.safe_load(run["parameters"]["recipe"]) for run in found)
        return any(isinstance(one, dict) and one["evaluation"]["problems"] == problems for one in recipes)

    try:
        assert eventually(fired)
    finally:
        httpx.delete(f"{place.api}/deployments/{deployment['id']}/schedules/{made['id']}").raise_for_status()


SLOW = (
    "iterations=50",
    "seed=7",
    "reasoner.engine.type=scripted",
    "reasoner.engine.rules=[{replies: [nothing], delay: 0.2}]",
    "runtime.reasoner.worker=true",
    "runtime.reason_batch=1",
)


def test_a_cancelled_run_leaves_no_process(place: Workplace) -> None:
    idle = {process.pid for process in place.processes()}
    run = place.start("train", recipe=tiny(*SLOW), run="cancelled")
    place.wait(run, "RUNNING")
    assert eventually(lambda: (place.folder / "runs" / "artifacts" / "parity").is_dir())
    assert eventually(lambda: any("racro.engines.worker.main" in p.cmdline() for p in place.processes()))
    answer = place.post(f"/flow_runs/{run}/set_state", state={"type": "CANCELLING", "name": "Cancelling"})
    assert answer.json()["status"] == "ACCEPT"
    place.wait(run, "CANCELLED")
    assert eventually(lambda: {process.pid for process in place.processes()} <= idle)


@pytest.fixture(scope="module")
def disturbed(place: Workplace) -> dict[str, Any]:
    """Two runs at once: in the second stage the process of one is killed, and the worker of the other."""
    seeds = {"killed": 8, "orphan": 9}
    runs = {name: place.start("prepare", recipe=tiny(LONG, f"seed={seeds[name]}"), run=name) for name in seeds}
    assert eventually(lambda: {*seeds.values()} <= {*prepared(place)})
    engines = {process.environ()["PREFECT__FLOW_RUN_ID"]: process for process in place.engines()}
    gpus = {name: engines[run].environ()["CUDA_VISIBLE_DEVICES"] for name, run in runs.items()}
    before = place.station()["children"]
    worker = f"worker {1 + GPUS.index(gpus['orphan'])}"
    engines[runs["killed"]].kill()
    psutil.Process(before[worker]).kill()
    first = {name: prepared(place)[seed] for name, seed in seeds.items()}
    return {"runs": runs, "gpus": gpus, "worker": worker, "was": before[worker], "first": first, "engines": engines}


def prepared(place: Workplace) -> dict[int, float]:
    """Seed -> when its training problems were ready; the held-out ones come after them."""
    files = (place.folder / "runs" / "artifacts" / "prepare").glob("*/record.json")
    records = [json.loads(file.read_text()) for file in files]
    return {one["inputs"]["seed"]: one["finished"] for one in records if one["inputs"]["heldout"] is None}


def resumed(place: Workplace, disturbed: dict[str, Any], name: str) -> bool:
    """Was it started twice, and did the second start take what the first had made?"""
    done = place.wait(disturbed["runs"][name], "COMPLETED", "FAILED")
    unchanged = disturbed["first"][name] in prepared(place).values()
    return (done["state"]["type"], done["run_count"], unchanged) == ("COMPLETED", 2, True)


def test_two_runs_at_once_share_no_gpu(disturbed: dict[str, Any]) -> None:
    assert sorted(disturbed["gpus"].values()) == GPUS


def test_a_killed_worker_is_replaced_and_its_run_resumed(place: Workplace, disturbed: dict[str, Any]) -> None:
    """Nobody is left to say that the run crashed; the next worker of that name does."""
    process = disturbed["engines"][disturbed["runs"]["orphan"]]
    assert eventually(lambda: not process.is_running()), "a run without a worker cannot be cancelled"
    assert eventually(lambda: place.station()["children"][disturbed["worker"]] != disturbed["was"])
    assert resumed(place, disturbed, "orphan")


def test_a_killed_run_is_resumed(place: Workplace, disturbed: dict[str, Any]) -> None:
    assert resumed(place, disturbed, "killed")


def test_a_run_whose_machine_is_gone_is_resumed(place: Workplace, lost: str) -> None:
    """Nobody but its silence says so."""
    done = place.wait(lost, "COMPLETED", "FAILED")
    states = place.get(f"/flow_run_states/?flow_run_id={lost}")
    history = [(state["timestamp"], state["name"], state["message"]) for state in states]
    assert (done["state"]["type"], done["run_count"]) == ("COMPLETED", 2), "\n".join(map(str, history))
    assert "no sign of life for 60 s" in [state["message"] for state in states]


def test_down_where_nothing_runs_says_so(tmp_path: Path) -> None:
    done = Workplace(tmp_path / "empty").racro("down")
    assert (done.returncode, done.stdout) == (0, "nothing runs here\n")
