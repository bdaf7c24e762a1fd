"""Packages of a user's own with the names of ours, which raise when they are imported."""

from __future__ import annotations

from pathlib import Path

NAMES = ("flows", "tasks", "infra", "racro")


def fill(folder: Path) -> None:
    """Put them into a folder."""
    for name in NAMES:
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "__init__.py").write_text(f"raise RuntimeError('the {name} of the working directory')\n")
