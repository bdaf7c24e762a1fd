"""`make soak`: does anything grow over many iterations? Disk, memory, file handles and threads of one training.

Runs a tiny training on the embedded world in one process, with a state of the trainer every five iterations, and looks
at its process after each update. Prints the table, and the growth per iteration of the second half.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
from pathlib import Path
from typing import Any

TINY = (
    "problems.count=64",
    "rollout.problems=8",
    "rollout.group_size=4",
    "update.mini_batch=4",
    "evaluation.problems=32",
    "evaluation.every=20",
    "runtime.checkpoint_every=5",
)


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def look(place: Path) -> dict[str, int]:
    """This process, and what it has on disk."""
    status = Path("/proc/self/status").read_text()
    memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return {
        "memory_mb": memory // 1024,
        "handles": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "root_kb": size(place / "runs" / "artifacts") // 1024,
        "states": len(list(place.rglob("trainer/.metadata"))),
        "scratch_kb": size(place / "home" / "scratch") // 1024,
    }


def main() -> None:
    """Train, look, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = soak(Path(folder), options.iterations)
    names = list(rows[0])
    print("iteration  " + "  ".join(f"{name:>10}" for name in names))
    for number, row in enumerate(rows, 1):
        if number % 5 == 0 or number == 1:
            print(f"{number:9}  " + "  ".join(f"{row[name]:10}" for name in names))
    half = rows[len(rows) // 2 :]
    growth = {name: statistics.linear_regression(range(len(half)), [row[name] for row in half]).slope for name in names}
    print("growth per iteration, second half: " + json.dumps({name: round(value, 2) for name, value in growth.items()}))


def soak(place: Path, iterations: int) -> list[dict[str, int]]:
    """What `look` saw after each iteration of a training."""
    from flows.station import local

    local.settle(place / "home")
    from racro.processes.child import free_port

    with local.prefect_server(place / "home", free_port()):
        import flows.training as training
        from racro.config import loading

        rows: list[dict[str, int]] = []
        log = training.report.log_iteration

        def watched(*arguments: Any, **more: Any) -> Any:
            point = log(*arguments, **more)
            rows.append(look(place))
            return point

        training.report.log_iteration = watched
        training.train(
            loading.load("embedded", [*TINY, f"iterations={iterations}"]), run="soak", root=str(place / "runs")
        )
    return rows


if __name__ == "__main__":
    main()
