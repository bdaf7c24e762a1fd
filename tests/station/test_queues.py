"""Queued runs are executed one at a time, the most urgent first, and all of them, also when one is killed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest

from flows.station.registration import QUEUES
from tests.support.eventually import eventually
from tests.support.workplace import Workplace, tiny

RUNS = 6
POOL = "/work_pools/racro"


@pytest.fixture
def one_at_a_time(place: Workplace) -> Iterator[None]:
    place.ask("PATCH", POOL, {"concurrency_limit": 1}).raise_for_status()
    yield
    place.ask("PATCH", POOL, {"concurrency_limit": None}).raise_for_status()


@pytest.mark.usefixtures("one_at_a_time")
def test_runs_in_order_of_priority_one_at_a_time_and_one_of_them_killed(place: Workplace) -> None:
    """Two workers share one slot; if a dead run kept it, no other run would start."""
    place.ask("PATCH", POOL, {"is_paused": True}).raise_for_status()
    identity = place.deployment("prepare")["id"]
    earlier = {run["id"] for run in place.completed(identity)}
    dice = random.Random(3)
    queued = [(QUEUES[number % 3], number) for number in range(RUNS)]
    dice.shuffle(queued)
    for queue, number in queued:
        recipe = tiny() if number else tiny("evaluation.problems=10000")  # which takes seconds: time to kill it
        content = {"parameters": {"recipe": recipe, "run": f"{queue}-{number}"}, "work_queue_name": queue}
        answer = place.post(f"/deployments/{identity}/create_flow_run", state={"type": "SCHEDULED"}, **content)
        assert answer.status_code == 201, answer.text
        if number == 0:
            victim = answer.json()["id"]
    place.ask("PATCH", POOL, {"is_paused": False}).raise_for_status()

    def done() -> list[dict[str, object]]:
        return [run for run in place.completed(identity) if run["id"] not in earlier]

    place.wait(victim, "RUNNING")
    [process] = [one for one in place.engines() if one.environ()["PREFECT__FLOW_RUN_ID"] == victim]
    process.kill()
    assert eventually(lambda: len(done()) == RUNS, 900)
    once = sorted((run for run in done() if run["run_count"] == 1), key=lambda run: str(run["start_time"]))
    assert all(str(one["end_time"]) <= str(following["start_time"]) for one, following in itertools.pairwise(once))
    order = [str(run["work_queue_name"]) for run in once]
    assert order == sorted(order, key=QUEUES.index)
    assert len(once) == RUNS - 1
