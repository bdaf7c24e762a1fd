"""How Prefect bears a flow with very many task runs: `python -m tests.bench.task_runs --count 5000`.

One flow on a server of its own, as a command starts it, makes task runs that do nothing. Looked at after each tenth of
them: seconds per task run; memory of both processes; and the lag, how many of the task runs that are over the server
does not show as over yet, because it learns of them by events. At the end, how long it takes until it shows all.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil


def measure(place: Path, count: int, deadline: float = 1800.0) -> tuple[list[dict[str, Any]], float]:
    """A row for each tenth, and the seconds after the flow's end until the server shows every task run as over."""
    os.environ["PREFECT_LOGGING_LEVEL"] = "WARNING"  # a line for each task run would be what is measured
    from flows.station import local

    local.settle(place / "home")
    from racro.processes.child import free_port

    with local.prefect_server(place / "home", free_port()):
        from prefect import flow, get_client, task
        from prefect.cache_policies import NO_CACHE
        from prefect.runtime import flow_run

        children = psutil.Process().children(recursive=True)
        servers = [child for child in children if "flows.station.prefect_server" in child.cmdline()]
        server = max(servers, key=lambda child: child.memory_info().rss)  # the other one watches over it
        rows: list[dict[str, Any]] = []

        def shown(identity: str) -> int:
            """Task runs of the flow run that the server shows as completed."""
            asked = {
                "flow_runs": {"id": {"any_": [identity]}},
                "task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
            }
            with get_client(sync_client=True) as client:
                return int(client.request("POST", "/task_runs/count", json=asked).json())

        @task(cache_policy=NO_CACHE, persist_result=False)
        def nothing(number: int) -> int:
            return number

        @flow(persist_result=False)
        def many() -> str:
            identity, last, part = str(flow_run.id), time.monotonic(), max(1, count // 10)
            for number in range(1, count + 1):
                nothing(number)
                if number % part == 0:
                    now = time.monotonic()
                    rows.append(
                        {
                            "task_runs": number,
                            "seconds_each": round((now - last) / part, 4),
                            "lag": number - shown(identity),
                            "flow_mb": psutil.Process().memory_info().rss // 2**20,
                            "server_mb": server.memory_info().rss // 2**20,
                        }
                    )
                    last = time.monotonic()
            return identity

        identity = many()
        begun = time.monotonic()
        while shown(identity) < count:
            if time.monotonic() - begun > deadline:
                raise TimeoutError(f"{count - shown(identity)} of {count} task runs are not shown as over")
            time.sleep(0.2)
        return rows, time.monotonic() - begun


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows, settled = measure(Path(folder), options.count)
    print("  ".join(f"{name:>12}" for name in rows[0]))
    for row in rows:
        print("  ".join(f"{value:12}" for value in row.values()))
    print(json.dumps({"count": options.count, "seconds_until_all_are_shown": round(settled, 1)}))


if __name__ == "__main__":
    main()
