"""What a Ray cluster costs on one machine: `python -m tests.bench.cluster`.

The same training with engines and trainer in worker processes, and with the same on a Ray cluster that is started here
for it, in turn. Compared are the seconds between two updates, and of the whole command, which on a cluster includes its
start.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SMALL = ("problems.count=512", "evaluation.problems=32", "evaluation.every=1000")
"""Iterations are those of the demo."""
PLACES = {
    "workers": ("runtime.captioner.worker=true", "runtime.reasoner.worker=true", "runtime.trainer.processes=1"),
    "ray": (
        "runtime.cluster={type: ray, address: local, cpus: 0.5}",
        "runtime.device=cpu",
        "runtime.trainer.processes=1",
    ),
}


def trained(place: Path, overrides: tuple[str, ...]) -> dict[str, Any]:
    """One training as a command in an empty folder: seconds of it and of its iterations."""
    place.mkdir(parents=True)
    command = [sys.executable, "-P", "-m", "flows.cli.main", "train", "embedded", "--run", "one"]
    command += [part for override in overrides for part in ("--set", override)]
    begun = time.monotonic()
    subprocess.run(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    seconds = time.monotonic() - begun
    records = [json.loads(file.read_text()) for file in place.glob("runs/artifacts/update/*/record.json")]
    ends = sorted(record["finished"] for record in records)
    return {
        "command": seconds,
        "iterations": [after - before for before, after in itertools.pairwise(ends)],
    }


def main() -> None:
    """Train in turn, print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in PLACES}
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        for number, (name, where) in itertools.product(range(options.rounds), PLACES.items()):
            one = trained(Path(folder) / f"{number}-{name}", (*SMALL, f"iterations={options.iterations}", *where))
            found[name].append(one)
            print(f"{name:8} {one['command']:6.1f} s, iterations", [round(value, 2) for value in one["iterations"]])
    each = {name: statistics.median(v for one in ones for v in one["iterations"]) for name, ones in found.items()}
    whole = {name: statistics.median(one["command"] for one in ones) for name, ones in found.items()}
    result = {
        "seconds_of_an_iteration": {name: round(value, 3) for name, value in each.items()},
        "ratio": round(each["ray"] / each["workers"], 3),
        "seconds_of_the_command": {name: round(value, 1) for name, value in whole.items()},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
