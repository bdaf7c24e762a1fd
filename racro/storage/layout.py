"""Every path of a run, as pure functions of the root. No I/O.

ROOT/artifacts/STAGE/IDENTITY/   what a stage made, shared by all runs under the root: same inputs, same folder;
                                 record.json, and the files in the folder of the attempt that made it
ROOT/NAME/                       each of them: run.json, whose name it is
ROOT/NAME/                       a run: recipe.yaml, summary.json, report.html, curve.png, engines/*.log
ROOT/NAME/                       an evaluation: recipe.yaml, summary.json, report.html, results/*.parquet
ROOT/NAME/                       a profile: recipe.yaml, summary.json, problems.parquet
ROOT/NAME/                       a sweep: recipe.yaml, summary.json, report.html, children/*.json; each child is a run
"""

from __future__ import annotations

import os
import re

from racro.errors import BadInput
from racro.schema import CHAMPION, INITIAL

ARTIFACTS = "artifacts"
"""Folder under the root that all runs share."""
RECORD = "record.json"
"""Written last into every artifact folder: present means complete."""
PRUNED = "pruned.json"
"""The same record in a folder whose files were removed to free their space."""
LINEAGE = "lineage.json"
"""Beside a trained policy: what it was made from (`racro.training.lineage`)."""

LONGEST_NAME = 160
"""Bytes of a run's name: file systems take 255, and a sweep's children have the sweep's name and more."""


class BadName(BadInput):
    """A name of a run that cannot be a folder."""


def absolute(root: str) -> str:
    """A root as it may travel to other processes: URIs stay, local paths become absolute."""
    return root.rstrip("/") if "://" in root else os.path.abspath(os.path.expanduser(root))


def artifact(root: str, stage: str, identity: str) -> str:
    """Folder of a stage's output."""
    return f"{root}/{artifact_key(stage, identity)}"


def artifact_key(stage: str, identity: str) -> str:
    """The folder relative to the root; also Prefect's cache key."""
    return f"{ARTIFACTS}/{stage}/{identity[:20]}"


def run(root: str, name: str) -> str:
    """Folder of a run. Raises BadName for a name that cannot be one."""
    if not re.fullmatch(r"\w[\w.+-]*", name) or name == ARTIFACTS:
        shown = name[:80] if name.isprintable() and name.strip() else repr(name[:80])
        raise BadName(f"--run {shown}: a name is letters, digits and . _ + -, and not `{ARTIFACTS}`")
    if len(name.encode()) > LONGEST_NAME:
        raise BadName(f"--run {name[:80]}...: is {len(name.encode())} bytes long; give at most {LONGEST_NAME}")
    return f"{root}/{name}"


def named(root: str, name: str) -> str:
    """As `run`, for a name that a run is to get: not one that would mean another policy than the run's."""
    if name in (CHAMPION, INITIAL):
        raise BadName(f"--run {name}: `--policy {name}` means another captioner than this run's; choose another name")
    return run(root, name)


def owner(root: str, name: str) -> str:
    """Whose name it is; there from the beginning of a run."""
    return f"{run(root, name)}/run.json"


def recipe(root: str, name: str) -> str:
    """The recipe as it ran, defaults filled in."""
    return f"{run(root, name)}/recipe.yaml"


def summary(root: str, name: str) -> str:
    """The result in numbers; see docs/summary.md."""
    return f"{run(root, name)}/summary.json"


def report(root: str, name: str) -> str:
    """The result in pictures."""
    return f"{run(root, name)}/report.html"


def curve(root: str, name: str) -> str:
    """The learning curve as PNG."""
    return f"{run(root, name)}/curve.png"


def results(root: str, name: str) -> str:
    """Folder of an evaluation's answers: parquet files and nothing else, so that any reader takes it as one table."""
    return f"{run(root, name)}/results"


def profile(root: str, name: str) -> str:
    """The problems with their pass rates; a recipe can name the file as its source."""
    return f"{run(root, name)}/problems.parquet"


def child(root: str, sweep: str, name: str) -> str:
    """What is known of a sweep's child: its learning curve, and how it ended."""
    return f"{run(root, sweep)}/children/{name}.json"


def engine_log(root: str, name: str, role: str) -> str:
    """What a role's engine printed, where it ran in processes of its own."""
    return f"{run(root, name)}/engines/{role}.log"
