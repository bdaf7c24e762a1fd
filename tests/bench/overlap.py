"""Captions one policy behind against captions of the newest: `python -m tests.bench.overlap`.

Seconds of an iteration with engines in processes of their own and a scripted reasoner that is as slow as the update,
against the larger of the two, each measured where nothing runs beside it. The trainer has one core and one thread, the
engines the other cores, as they would have GPUs of their own: what shares a core cannot overlap. Then the held-out
accuracy with the embedded reasoner over three seeds. Trainings that have ended under --root are not repeated.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

APART = ("runtime.captioner.worker=true", "runtime.reasoner.worker=true")
SHORT = (
    "iterations=8",
    "problems.count=512",
    "rollout.problems=64",
    "update.mini_batch=16",
    "evaluation.every=8",
    "evaluation.problems=512",
)
LARGE = (
    "iterations=5",
    "problems.count=2048",
    "rollout.problems=384",
    "update.mini_batch=96",
    "evaluation.every=100",
    "evaluation.problems=1",
)
"""Iterations of ten seconds and more: what is fixed, such as reports and servers, does not count for much."""
REWARDS = "rewards=[{type: answer}, {type: facts, by: scene}, {type: length, weight: 0.1, budget: 6, limit: 12}]"
"""With replies that are always the same, facts and lengths give the signal, in nearly all groups."""


def trained(name: str, root: Path, overrides: Sequence[str], own_cores: bool = False) -> dict[str, Any]:
    """One training in a process of its own."""
    file = root / f"{name}.json"
    if not file.is_file():
        command = [sys.executable, "-m", "tests.bench.overlap", "--root", str(root), "--one", str(file)]
        command += ["--own-cores"] * own_cores
        command += [part for override in overrides for part in ("--set", override)]
        environment = os.environ | ({"OMP_NUM_THREADS": "1"} if own_cores else {})
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def keep_apart() -> None:
    """From now on this process computes on the first core, and what it starts (engines, Prefect's server) on others."""
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        raise SystemExit("tests.bench.overlap: needs two cores")
    os.sched_setaffinity(0, {first})

    def move() -> None:
        while True:
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error, OSError):
                    for thread in child.threads():
                        os.sched_setaffinity(thread.id, others)
            time.sleep(0.5)

    threading.Thread(target=move, daemon=True).start()


def train_one(root: Path, out: Path, overrides: Sequence[str]) -> None:
    """Train, and write what is compared."""
    from flows.station import local

    ends: list[float] = []
    seconds: dict[str, list[float]] = {"update": [], "reasoner": []}
    home = local.settle(root / "home")
    with local.prefect_server(home):
        from flows.training import train
        from racro.config import loading
        from tasks.running.stages import Stages

        run = Stages.run

        def watched(self: Stages, task: Any, *names: Any, **inputs: Any) -> Any:
            handle = run(self, task, *names, **inputs)
            kind = {"update": "update", "reward-answer": "reasoner"}.get(task.name)
            if kind:
                seconds[kind].append(Stages.record(handle).seconds)
            if kind == "update":
                ends.append(time.monotonic())
            return handle

        Stages.run = watched  # type: ignore[method-assign]
        summary = train(loading.load("embedded", list(overrides)), run=out.stem, root=str(root / out.stem))
    walls = [later - earlier for earlier, later in itertools.pairwise(ends)]
    found = {"iteration": walls, **seconds, "accuracy": summary.final.accuracy, "stderr": summary.final.stderr}
    out.write_text(json.dumps(found))


def median(values: Sequence[float]) -> float:
    """Of all iterations but the first, in which engines start."""
    return statistics.median(values[1:])


def measure_time(root: Path, more: Sequence[str]) -> None:
    """A reasoner as slow as the update, whose replies take their time one after the other."""

    def slow(delay: float) -> tuple[str, ...]:
        reasoner = f"{{type: scripted, rules: [{{replies: [unknown], delay: {delay:.6f}}}]}}"
        return (*LARGE, *APART, f"reasoner.engine={reasoner}", REWARDS, *more)

    # Streaming hides a part of the reasoner behind the captions: its own time is seen without.
    apart = ("runtime.streaming=false", "rollout.lag=0")

    plain = trained("probe", root, (*slow(0.001), *apart), own_cores=True)
    update, probe = median(plain["update"]), median(plain["reasoner"])
    delay = 0.001 * update / probe if probe > 0 else 0.001
    runs = {
        "0, nothing streams": trained("time-apart", root, (*slow(delay), *apart), own_cores=True),
        "0": trained("time-0", root, (*slow(delay), "rollout.lag=0"), own_cores=True),
        "1": trained("time-1", root, (*slow(delay), "rollout.lag=1"), own_cores=True),
    }
    print("| lag | iteration, s | update, s | reasoner, s | iteration / larger of the two |\n|---|---|---|---|---|")
    larger = max(median(runs["0, nothing streams"][kind]) for kind in ("update", "reasoner"))
    for lag, found in runs.items():
        own = [median(found[kind]) for kind in ("iteration", "update", "reasoner")]
        print(f"| {lag} | {own[0]:.2f} | {own[1]:.2f} | {own[2]:.2f} | {own[0] / larger:.2f} |", flush=True)


def measure_accuracy(root: Path, seeds: int, more: Sequence[str]) -> None:
    """The same number of iterations with captions of either policy."""
    print("\n| lag | held-out accuracy, % | by seed |\n|---|---|---|")
    for lag in (0, 1):
        keys = (*SHORT, *more, f"rollout.lag={lag}")
        found = [100 * trained(f"lag-{lag}-{s}", root, (*keys, f"seed={s}"))["accuracy"] for s in range(seeds)]
        error = statistics.stdev(found) / math.sqrt(seeds) if seeds > 1 else math.nan
        print(
            f"| {lag} | {statistics.fmean(found):.1f} ± {error:.1f} | {', '.join(f'{a:.1f}' for a in found)} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=["time", "accuracy"])
    parser.add_argument("--root", type=Path, default=Path("overlap"))
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="override a key of all runs")
    parser.add_argument("--own-cores", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--one", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    given = parser.parse_args()
    root = given.root.absolute()
    root.mkdir(parents=True, exist_ok=True)
    if given.own_cores:
        keep_apart()
    if given.one:
        return train_one(root, given.one, given.set)
    if given.only != "accuracy":
        measure_time(root, given.set)
    if given.only != "time":
        measure_accuracy(root, given.seeds, given.set)
    return None


if __name__ == "__main__":
    main()
