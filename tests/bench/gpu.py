"""`make bench-gpu`: engine and update of full-size Qwen2.5-VL on one GPU, in under 8 minutes, without internet.

Random weights need no hub and cost what trained ones cost; accuracy means nothing here. Prompts of about 1,200 tokens
with one image, captions of 300 to 500 tokens, groups of 4: the paper's lengths. Prints a table and writes gpu.txt and
gpu.json into --out (or $OUT) after each row; a row that fails says why, and the next one follows. What is measured is
in `tests.bench.gpu_rows`. A test runs the size `tiny` on a CPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from racro.config import Lora
from racro.models import attention
from tests.bench.gpu_rows import Bench, Skipped, matmul_peak
from tests.bench.gpu_work import PAPER, TINY, Workload

BUDGET = 440.0
"""Seconds after which no further row begins; the last one and the end have a minute."""
KINDS: dict[str, dict[str, Lora | None]] = {
    "tiny": {"full": None, "lora": Lora()},
    "3b": {"full": None},
    "7b": {"lora": Lora(rank=64, alpha=128)},
}
"""What is trained, by size: as much as fits into 80 GB."""


@dataclass
class Row:
    """One measurement."""

    model: str
    what: str
    seconds: float | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    peak_gib: float | None = None
    failed: str | None = None


class Table:
    """The rows so far, written anew after each."""

    def __init__(self, out: Path, device: str, budget: float) -> None:
        self.out, self.device, self.end = out, device, time.monotonic() + budget
        self.rows: list[Row] = []
        self.out.mkdir(parents=True, exist_ok=True)

    def measure(self, model: str, what: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """Run `work` and add its row; None if it failed. Its own `seconds` replace those of the whole call."""
        row = Row(model, what)
        if time.monotonic() > self.end:
            row.failed = "no time left"
            return self._add(row)
        gpu = torch.cuda.is_available()
        if gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start = time.monotonic()
        try:
            row.figures = work()
            if gpu:
                torch.cuda.synchronize()
            row.seconds = row.figures.pop("seconds", time.monotonic() - start)
            peak = torch.cuda.max_memory_allocated() / 2**30 if gpu else None
            row.peak_gib = row.figures.pop("peak_gib", peak)
        except Exception as error:  # a row that fails is a finding too
            first = " ".join(str(error).split())[:160]
            row.failed = first if isinstance(error, Skipped) else f"{type(error).__name__}: {first}"
            error.__traceback__ = None  # its frames hold tensors
        free()
        return self._add(row)

    def _add(self, row: Row) -> dict[str, Any] | None:
        self.rows.append(row)
        print(line(row), flush=True)
        (self.out / "gpu.json").write_text(
            json.dumps({"device": self.device, "rows": [asdict(row) for row in self.rows]}, indent=2) + "\n"
        )
        (self.out / "gpu.txt").write_text("\n".join([self.device, HEAD, *map(line, self.rows)]) + "\n")
        return None if row.failed else row.figures


HEAD = f"{'model':<6}{'what':<44}{'s':>8}{'tokens/s':>10}{'of peak':>9}{'GiB':>7}  more"


def line(row: Row) -> str:
    """A row of the text."""
    if row.failed:
        return f"{row.model:<6}{row.what:<44}{'-':>8}  {row.failed}"
    figures = dict(row.figures)
    rate, share = figures.pop("tokens_per_s", None), figures.pop("of_peak", None)
    more = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()
    )
    cells = (
        f"{row.seconds:>8.2f}",
        f"{'-' if rate is None else round(rate):>10}",
        f"{'-' if share is None else f'{share:.1%}':>9}",
        f"{'-' if row.peak_gib is None else f'{row.peak_gib:.1f}':>7}",
    )
    return f"{row.model:<6}{row.what:<44}{''.join(cells)}  {more}".rstrip()


def free() -> None:
    """Let go of what the last row left."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def attentions() -> list[str]:
    """Ways to compute attention that train here."""
    return ["sdpa"] + (["flex_attention", *attention.installed()[:1]] if torch.cuda.is_available() else [])


def run(sizes: list[str], out: Path, budget: float = BUDGET, workload: Workload | None = None) -> list[Row]:
    """All rows of these sizes."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    table = Table(out, device, budget)
    print(f"{device}\n{HEAD}", flush=True)
    tiny = sizes == ["tiny"]
    found = table.measure("", "matmul in bfloat16", lambda: matmul_peak(256 if tiny else 8192))
    peak = found["tflops"] if found else None
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="racro-bench-", dir=scratch()) as place:
            measure(table, size, Bench(size, Path(place), workload or (TINY if tiny else PAPER), peak))
    return table.rows


def measure(table: Table, size: str, bench: Bench) -> None:
    """The rows of one size."""
    if table.measure(size, "random weights written", bench.build) is None:
        return
    captions = table.measure(size, "captions, transformers", lambda: bench.caption("transformers"))
    table.measure(size, "captions, vLLM", lambda: bench.caption("vllm"))
    for kind, lora in KINDS[size].items():
        smaller = {"beta": 0.0, "tokens": bench.workload.tokens // 2}
        attempts: list[dict[str, Any]] = [{}, {"beta": 0.0}, smaller]
        for options in attempts:
            name = "".join(f", {key} {value:g}" for key, value in options.items())
            if table.measure(size, f"trainer loaded, {kind}{name}", lambda: bench.load(lora, **options)) is None:  # noqa: B023
                continue
            if (
                table.measure(size, f"update, {kind}, grouped, sdpa{name}", lambda: bench.update("sdpa", True))
                is not None
            ):
                break
        else:
            continue
        for what, work in trained(bench, kind, captions is not None):
            table.measure(size, what, work)
        bench.close()
        free()


def trained(bench: Bench, kind: str, captions: bool) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """The rows of a loaded trainer, what matters most first."""
    if captions:
        yield f"update, {kind}, on the engine's captions", bench.gap
    for way in attentions()[1:]:
        grouped = not way.startswith("flash")
        yield f"update, {kind}, {'grouped' if grouped else 'plain'}, {way}", lambda: bench.update(way, grouped)  # noqa: B023
    yield f"update, {kind}, plain, sdpa", lambda: bench.update("sdpa", False)
    yield "log-probs, plain, sdpa", lambda: bench.logprobs("sdpa", False)
    for way in attentions():
        if not way.startswith("flash"):
            yield f"log-probs, grouped, {way}", lambda: bench.logprobs(way, True)  # noqa: B023
    yield f"largest bin, {kind}", bench.largest_bin


def scratch() -> str | None:
    """Main memory, if it has room for the weights: disks take longer than the measurements."""
    place = Path("/dev/shm")
    if not place.is_dir():
        return None
    state = os.statvfs(place)
    return str(place) if state.f_bavail * state.f_frsize > 40 * 2**30 else None


def main() -> None:
    """Measure what the options say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=KINDS, nargs="+", default=["3b", "7b"])
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".racro/bench")))
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds after which no row begins")
    options = parser.parse_args()
    run(options.size, options.out, options.budget)


if __name__ == "__main__":
    main()
