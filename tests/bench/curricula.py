"""Curricula, refill and references against the plain walk on the embedded world: `python -m tests.bench.curricula`.

Trains each arm with each seed and prints, as a table: rollouts until the held-out accuracy is 95 %, the last accuracy,
the share of groups with signal, and seconds. Means over seeds with their standard errors. Ends of earlier runs under
--root come from the cache.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ARMS: dict[str, tuple[str, ...]] = {
    "uniform": (),
    "pools": ("curriculum.type=pools",),
    "pools from a profile": ("curriculum={type: pools, profile: 4}",),
    "variance": ("curriculum.type=variance",),
    "refill 2": ("rollout.refill=2",),
    "references": ("rollout.references=true",),
}
SHORT = (
    "iterations=12",
    "problems.count=512",
    "rollout.problems=64",
    "update.mini_batch=16",
    "evaluation.every=1",
    "evaluation.problems=512",
    "runtime.checkpoint_every=100",
)
GOAL = 0.95


def trained(arm: str, seed: int, root: Path, more: Sequence[str]) -> dict[str, float]:
    """One training in a process of its own."""
    name = f"{arm.replace(' ', '-')}-{seed}"
    file = root / f"{name}.json"
    if not file.is_file():
        command = [sys.executable, "-m", "tests.bench.curricula", "--root", str(root)]
        command += ["--one", arm, str(seed), str(file), *(part for key in more for part in ("--set", key))]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found: dict[str, float] = json.loads(file.read_text())
    return found


def train_one(arm: str, seed: int, root: Path, out: Path, more: Sequence[str]) -> None:
    """Train, and write what the table needs."""
    from flows.station import local

    home = local.settle(root / "home")
    accuracies: dict[int, float] = {}
    spent: list[tuple[int, int, int]] = []
    """Captions, groups and groups with signal of each iteration."""
    with local.prefect_server(home):
        from flows.training import train
        from racro.config import loading
        from tasks.recording import report
        from tasks.running.stages import Stages

        report.watchers.append(lambda _, k, score: accuracies.__setitem__(k, score.accuracy))
        run = Stages.run

        def watched(self: Stages, task: Any, *names: Any, **inputs: Any) -> Any:
            handle = run(self, task, *names, **inputs)
            if task.name == "update":
                metrics = Stages.record(inputs["scored"]).metrics
                rows = inputs["scored"].rows - int(metrics.get("references", 0))
                spent.append((rows, int(metrics["groups"]), int(metrics["groups_informative"])))
            return handle

        Stages.run = watched  # type: ignore[method-assign]
        recipe = loading.load("racro/recipes/embedded.yaml", [*SHORT, *more, *ARMS[arm], f"seed={seed}"])
        start = time.monotonic()
        train(recipe, run=out.stem, root=str(root / "runs"))
        seconds = time.monotonic() - start
    reached = next((k for k in sorted(accuracies) if accuracies[k] >= GOAL), None)
    profile = 4 * recipe.problems.count if "profile" in arm else 0
    rollouts = math.nan if reached is None else profile + sum(rows for rows, _, _ in spent[:reached])
    out.write_text(
        json.dumps(
            {
                "rollouts": rollouts,
                "iterations": math.nan if reached is None else reached,
                "final": accuracies[max(accuracies)],
                "informative": sum(i for _, _, i in spent) / sum(groups for _, groups, _ in spent),
                "per update": statistics.fmean(i for _, _, i in spent),
                "all rollouts": profile + sum(rows for rows, _, _ in spent),
                "seconds": seconds,
            }
        )
    )


def shown(values: Sequence[float], factor: float = 1.0, digits: int = 0) -> str:
    """Mean and standard error; how many reached the goal where not all did."""
    known = [value * factor for value in values if not math.isnan(value)]
    if len(known) < len(values):
        return f"{len(known)} of {len(values)} reached it"
    error = statistics.stdev(known) / math.sqrt(len(known)) if len(known) > 1 else math.nan
    return f"{statistics.fmean(known):,.{digits}f} ± {error:,.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--root", type=Path, default=Path("curricula"))
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="override a key of all arms")
    parser.add_argument("--one", nargs=3, metavar=("ARM", "SEED", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.root.mkdir(parents=True, exist_ok=True)
    if given.one:
        return train_one(given.one[0], int(given.one[1]), given.root.absolute(), Path(given.one[2]), given.set)
    made = {
        arm: [trained(arm, seed, given.root.absolute(), given.set) for seed in range(given.seeds)] for arm in given.arms
    }
    headings = (
        "rollouts to 95 %",
        "iterations",
        "last accuracy, %",
        "groups with signal, %",
        "of them",
        "rollouts in all",
    )
    print(f"| curriculum | {' | '.join(headings)} |\n|{'---|' * (len(headings) + 1)}")
    for arm, runs in made.items():
        column = {key: [run[key] for run in runs] for key in runs[0]}
        cells = [
            shown(column["rollouts"]),
            shown(column["iterations"], digits=1),
            shown(column["final"], 100, 1),
            shown(column["informative"], 100, 1),
            shown(column["per update"], digits=1),
            shown(column["all rollouts"]),
        ]
        print(f"| {arm} | {' | '.join(cells)} |")
    return None


if __name__ == "__main__":
    main()
