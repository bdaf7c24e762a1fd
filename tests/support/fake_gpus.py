"""GPUs that are not there: a program `nvidia-smi` that names them, and a torch that counts them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch


def install(place: Path, monkeypatch: pytest.MonkeyPatch, gib: Mapping[int, float], free: float = 1.0) -> Path:
    """Put GPUs of these sizes on PATH, by number, with that share of their memory free.

    Returns the file that the program prints, so that a test can change it.
    """
    program, table = place / "bin" / "nvidia-smi", place / "gpus.csv"
    program.parent.mkdir(parents=True)
    table.write_text(lines(gib, free))
    program.write_text(f'#!/bin/sh\ncase "$*" in *index,memory.free,memory.total*) exec cat {table};; esac\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gib))
    return table


def lines(gib: Mapping[int, float], free: float = 1.0) -> str:
    """What nvidia-smi prints: numbers, free and total MiB."""
    return "".join(f"{number}, {round(size * 1024 * free)}, {round(size * 1024)}\n" for number, size in gib.items())
