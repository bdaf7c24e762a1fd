"""What the shell completes behind `racro`: names of recipes, runs and keys. Must be quick, and never fail."""

from __future__ import annotations

import glob
from pathlib import Path

import typer

LIMIT = 200
"""Most files and runs that are looked at."""


def complete_recipe(incomplete: str) -> list[str]:
    """Shipped recipes, and YAML files and folders of the working directory."""
    from racro.config import loading

    files = (Path(found) for found in sorted(glob.glob(f"{glob.escape(incomplete)}*"))[:LIMIT])
    paths = [f"{path}/" if path.is_dir() else str(path) for path in files if path.is_dir() or path.suffix == ".yaml"]
    return [*(name for name in loading.names() if name.startswith(incomplete)), *(paths if incomplete else ())]


def complete_run(ctx: typer.Context, incomplete: str) -> list[str]:
    """Runs under the root, if it is a folder of this machine."""
    root = Path(ctx.params.get("root") or "runs")
    found = sorted(root.glob(f"{glob.escape(incomplete)}*/run.json"))[:LIMIT] if root.is_dir() else []
    return [path.parent.name for path in found]


def complete_key(incomplete: str) -> list[str]:
    """Keys of recipes by their full paths."""
    from racro.config import keys

    paths = (f"{section.paths[0]}.{key.name}".removeprefix(".") for section in keys.sections() for key in section.keys)
    return [path for path in paths if path.startswith(incomplete)]
