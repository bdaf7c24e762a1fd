"""Every path of a run, as pure functions of the root. No I/O.

ROOT/artifacts/STAGE/IDENTITY/   what a stage made, shared by all runs under the root: same inputs, same folder
ROOT/NAME/                       a run: recipe.yaml, summary.json, report.html, curve.png
"""

from __future__ import annotations

RECORD = "record.json"
"""Written last into every artifact folder: present means complete."""


def artifact(root: str, stage: str, identity: str) -> str:
    """Folder of a stage's output."""
    return f"{root}/{artifact_key(stage, identity)}"


def artifact_key(stage: str, identity: str) -> str:
    """The folder relative to the root; also Prefect's cache key."""
    return f"artifacts/{stage}/{identity[:20]}"


def run(root: str, name: str) -> str:
    """Folder of a run."""
    return f"{root}/{name}"


def recipe(root: str, name: str) -> str:
    """The recipe as it ran, defaults filled in."""
    return f"{run(root, name)}/recipe.yaml"


def summary(root: str, name: str) -> str:
    """The result in numbers; see README, section The summary."""
    return f"{run(root, name)}/summary.json"


def report(root: str, name: str) -> str:
    """The result in pictures."""
    return f"{run(root, name)}/report.html"


def curve(root: str, name: str) -> str:
    """The learning curve as PNG."""
    return f"{run(root, name)}/curve.png"
