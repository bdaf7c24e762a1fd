"""How Prefect bears a flow with very many task runs: `python -m tests.bench.task_runs --count 5000`.

One flow on a server of its own, as a command starts it, makes task runs that do nothing. Looked at after each tenth of
them: seconds per task run; memory of both processes; and the lag, how many of the task runs that are over the server
does not show as over yet, because it learns of them by events. At the end, how long it takes until it shows all.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import psutil

HEADINGS = ("task runs", "s each", "not shown", "flow MB", "server MB")
ROW = "{:>10}{:>10}{:>11}{:>9}{:>11}"


def say(number: int, seconds: float, lag: int, server: psutil.Process) -> None:
    """A row of the table."""
    memory = (process.memory_info().rss // 2**20 for process in (psutil.Process(), server))
    print(ROW.format(number, f"{seconds:.4f}", lag, *memory), flush=True)


def measure(place: Path, count: int, deadline: float = 1800.0) -> float:
    """Print a row for each tenth. Seconds from the flow's end until the server shows every task run as over."""
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
                    say(number, (now - last) / part, number - shown(identity), server)
                    last = time.monotonic()
            return identity

        identity = many()
        begun = time.monotonic()
        while (there := shown(identity)) < count:
            if time.monotonic() - begun > deadline:
                raise TimeoutError(f"{count - there} of {count} task runs are not shown as over")
            time.sleep(1.0)
        return time.monotonic() - begun


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(ROW.format(*HEADINGS))
        settled = measure(Path(folder), options.count)
    print(f"all {options.count} shown as over {settled:.1f} s after the end of the flow")


if __name__ == "__main__":
    main()
