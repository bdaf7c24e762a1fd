"""RAPID's stages against RACRO's one on the embedded world: `python -m tests.bench.rapid`.

Trains each recipe with each seed, evaluates its last policy on held-out problems by the captions alone and with its own
answers beside them (joint), and prints accuracies as means over seeds with standard errors. RAPID has four iterations
more, in which it answers by itself. Trainings that have ended under --root are not repeated.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ARMS = {"racro": "embedded", "rapid": "embedded-rapid"}
MODES = ("caption", "direct", "joint")


def command(root: Path, *words: str) -> Any:
    """What a `racro` command says as JSON."""
    line = [sys.executable, "-m", "flows.cli.main", *words, "--root", str(root), "--json"]
    return json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE).stdout)


def accuracies(arm: str, seed: int, root: Path, more: Sequence[str]) -> dict[str, float]:
    """Of the last policy, by mode."""
    name = f"{arm}-{seed}"
    keys = [part for key in (f"seed={seed}", *more) for part in ("--set", key)]
    command(root, "train", ARMS[arm], "--run", name, *keys)
    modes = [part for mode in MODES for part in ("--mode", mode)]
    found = command(root, "evaluate", ARMS[arm], "--policy", name, "--run", f"{name}-evaluated", *modes, *keys)
    return {entry["mode"]: entry["metrics"][0]["value"] for entry in found["entries"]}


def shown(values: Sequence[float]) -> str:
    """Mean and standard error, in percent."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{100 * statistics.fmean(values):.1f} ± {100 * error:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--root", type=Path, default=Path("rapid"))
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="override a key of both")
    given = parser.parse_args()
    print(f"| recipe | {' | '.join(f'{mode}, %' for mode in MODES)} |\n|{'---|' * (len(MODES) + 1)}")
    for arm in ARMS:
        made = [accuracies(arm, seed, given.root.absolute(), given.set) for seed in range(given.seeds)]
        print(f"| {arm} | {' | '.join(shown([run[mode] for run in made]) for mode in MODES)} |", flush=True)


if __name__ == "__main__":
    main()
