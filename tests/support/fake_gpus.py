"""GPUs that are not there: a program `nvidia-smi` that names them, and a torch that counts them.

What nvidia-smi prints is in a file; if there is another one of that name and `.next`, it takes its place afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from flows.cli.checks import placement
from racro.config import Recipe, loading
from racro.models import colocation
from tests.support import qwen


def install(place: Path, monkeypatch: pytest.MonkeyPatch, gib: Mapping[int, float], free: float = 1.0) -> Path:
    """Put GPUs of these sizes on PATH, by number, with that share of their memory free.

    Returns the file that the program prints.
    """
    program, table = place / "bin" / "nvidia-smi", place / "gpus.csv"
    program.parent.mkdir(parents=True)
    table.write_text(lines(gib, free))
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *index,memory.free,memory.total*) cat {table};; *) exit 1;; esac\n'
        f"[ ! -f {table}.next ] || mv {table}.next {table}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gib))
    return table


def lines(gib: Mapping[int, float], free: float = 1.0) -> str:
    """What nvidia-smi prints: numbers, free and total MiB."""
    return "".join(f"{number}, {round(size * 1024 * free)}, {round(size * 1024)}\n" for number, size in gib.items())


class Machine:
    """A folder with models' configurations, and the GPUs of a test."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place, self.monkeypatch = place, monkeypatch
        for module in (colocation, placement):
            monkeypatch.setattr(module, "cpu_build", lambda: False)

    def gpus(self, *gib: float, free: float = 1.0) -> Path:
        """GPUs 0, 1 ... of these sizes; see `install`."""
        return install(self.place / "gpus", self.monkeypatch, dict(enumerate(gib)), free)

    def overrides(self, name: str) -> list[str]:
        """Models of this recipe that are on this machine, without weights."""
        return [
            f"captioner.model={qwen.captioner_folder(name.removeprefix('racro-'), self.place)}",
            f"reasoner.model={qwen.reasoner_folder(self.place)}",
        ]

    def recipe(self, name: str, *overrides: str) -> Recipe:
        """A shipped recipe with such models."""
        return loading.load(name, [*self.overrides(name), *overrides])
