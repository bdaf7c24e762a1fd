"""Many runs at once, one at a time: the most urgent first, all of them, whatever dies meanwhile."""

from __future__ import annotations

import random
from collections.abc import Iterator

import httpx
import pytest
from workplace import Workplace, eventually, opened, tiny

from flows.registration import QUEUES

RUNS = 20


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    yield from opened(tmp_path_factory.mktemp("queues"))


def pause(place: Workplace, paused: bool) -> None:
    httpx.patch(f"{place.api}/work_pools/racro", json={"is_paused": paused}).raise_for_status()


def engines(place: Workplace) -> list[int]:
    return [process.pid for process in place.processes() if "prefect.engine" in " ".join(process.cmdline())]


def test_twenty_runs_in_order_of_priority_one_at_a_time_and_one_of_them_killed(place: Workplace) -> None:
    pause(place, True)
    identity = place.deployment("prepare")["id"]
    dice = random.Random(3)
    queued = [(QUEUES[number % 3], number) for number in range(RUNS)]
    dice.shuffle(queued)
    for queue, number in queued:
        content = {"parameters": {"recipe": tiny(), "run": f"{queue}-{number}"}, "work_queue_name": queue}
        answer = place.post(f"/deployments/{identity}/create_flow_run", state={"type": "SCHEDULED"}, **content)
        assert answer.status_code == 201, answer.text
    pause(place, False)

    done = {"deployment_id": {"any_": [identity]}, "state": {"type": {"any_": ["COMPLETED"]}}}
    assert eventually(lambda: len(place.post("/flow_runs/filter", flow_runs=done).json()) >= 3, 120)
    assert eventually(lambda: bool(engines(place)), 60)
    [victim] = [process for process in place.processes() if process.pid in engines(place)]
    victim.kill()
    most = 0

    def all_done() -> bool:
        nonlocal most
        most = max(most, len(engines(place)))
        return len(place.post("/flow_runs/filter", flow_runs=done).json()) == RUNS

    assert eventually(all_done, 500)
    assert most == 1
    runs = place.post("/flow_runs/filter", flow_runs=done).json()
    once = sorted((run for run in runs if run["run_count"] == 1), key=lambda run: run["start_time"])
    order = [run["work_queue_name"] for run in once]
    assert order == sorted(order, key=QUEUES.index)
    assert RUNS - 1 <= len(once) <= RUNS
