"""Waits for free GPU memory before an engine starts: the memory of a killed process is freed with a delay.

Asks `nvidia-smi`, because asking CUDA would itself take memory. Called by `racro.engines.opening`.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence


class NoGpuMemory(RuntimeError):
    """Another process holds the memory of a GPU."""


MEMORY_DEADLINE = 60.0
"""Seconds to wait for memory to be freed."""


def wait_for_memory(gpus: Sequence[int], share: float, deadline: float) -> None:
    """Return when each of `gpus` (empty: every one) has `share` of its memory free, or there is no GPU.

    Raises NoGpuMemory, naming the GPUs, after a minute or `deadline` seconds.
    """
    until = time.monotonic() + min(MEMORY_DEADLINE, deadline)
    while taken := [gpu for gpu, free in free_shares().items() if (gpu in gpus or not gpus) and free < share]:
        if time.monotonic() > until:
            raise NoGpuMemory(
                f"GPU {', '.join(map(str, taken))}: less than {share:.0%} of the memory is free; end what holds it "
                "(nvidia-smi shows it)"
            )
        time.sleep(0.5)


def shares(gpus: str, parts: int) -> list[str]:
    """`gpus`, written as in CUDA_VISIBLE_DEVICES, dealt out to so many processes; each gets none where they are few."""
    names = [name for name in gpus.split(",") if name]
    each = len(names) // parts
    return [",".join(names[i * each : (i + 1) * each]) for i in range(parts)]


def free_shares() -> dict[int, float]:
    """Free share of the memory by GPU number; empty where there is no `nvidia-smi`."""
    if shutil.which("nvidia-smi") is None:
        return {}
    query = ["nvidia-smi", "--query-gpu=index,memory.free,memory.total", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()
    except (subprocess.SubprocessError, OSError):  # a driver that does not answer is for the engine itself to report
        return {}
    cells = [[cell.strip() for cell in line.split(",")] for line in lines]
    return {int(index): float(free) / float(total) for index, free, total in cells if total.isdigit()}
