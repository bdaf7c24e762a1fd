"""Log-probs and updates with shared prompts against a row for each caption, on a CPU at the paper's lengths.

python -m tests.bench.grouped [--rounds 3] [--groups 4] [--captions 4 8]

A small random model of Qwen2.5-VL's architecture in float32: prompts of about 1,200 tokens with one image, captions of
300 to 500 tokens. Both ways take turns, because a machine that others use is not equally fast all the time; ratios are
of wall time and of the processor time of this process.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.bench.gpu_rows import Bench, Figures
from tests.bench.gpu_work import PAPER, lengths


def compare(what: str, measure: Callable[[bool], Figures], rounds: int) -> None:
    """A line for each round, and the medians of the ratios plain : grouped."""
    found = []
    for number in range(1, rounds + 1):
        plain, grouped = measure(False), measure(True)
        ratios = tuple(plain[unit] / grouped[unit] for unit in ("seconds", "cpu_s"))
        found.append(ratios)
        print(
            f"{what}, round {number}: plain {plain['seconds']:.1f} s ({plain['cpu_s']:.1f} s of processor), "
            f"grouped {grouped['seconds']:.1f} s ({grouped['cpu_s']:.1f}); {ratios[0]:.2f} x, {ratios[1]:.2f} x",
            flush=True,
        )
    wall, processor = (statistics.median(ratios) for ratios in zip(*found, strict=True))
    print(f"{what}: {wall:.2f} x in wall time, {processor:.2f} x in processor time (medians)", flush=True)


def main() -> None:
    """Log-probs and whole updates, for groups of each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--groups", type=int, default=4, help="of an update")
    parser.add_argument("--captions", type=int, nargs="+", default=[4, 8], help="of a group: each size is measured")
    options = parser.parse_args()
    for captions in options.captions:
        with tempfile.TemporaryDirectory(prefix="racro-bench-") as place:
            workload = replace(PAPER, groups=options.groups, captions=captions)
            bench = Bench("small", Path(place), workload, None)
            bench.build()
            bench.load(None, dtype="float32")
            own = lengths(bench.work(1).groups[0])
            print(f"G = {captions}: prompt {own.prompt}, captions {min(own.captions)} to {max(own.captions)} tokens")
            compare(f"G = {captions}, log-probs", lambda way: bench.logprobs("sdpa", way), options.rounds)  # noqa: B023
            compare(f"G = {captions}, update", lambda way: bench.update("sdpa", way), options.rounds)  # noqa: B023


if __name__ == "__main__":
    main()
