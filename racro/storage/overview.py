"""The runs of a root, as their folders tell: kind, recipe, result, when, and what they need.

Not here: whether a run is under way, which MLflow knows (`tasks.recording.statuses`).
"""

from __future__ import annotations

import datetime
import json
import re
from typing import Any, NamedTuple

import yaml

from racro.config import loading
from racro.schema import Share
from racro.storage import layout, runs
from racro.storage.artifacts import read_file
from racro.storage.files import opened, with_retries
from racro.storage.retention import training_digests
from racro.storage.usage import Claim

POLICY = re.compile(rf"/{layout.ARTIFACTS}/update/(\w+)")
"""The name of a policy's folder, in its place."""


class Run(NamedTuple):
    """A run by its folder."""

    name: str
    kind: str
    recipe_digest: str
    finished: bool
    summary: dict[str, Any]
    """Content of summary.json; empty until the run has finished."""
    changed: datetime.datetime
    """When it finished, or began."""
    bytes: int
    """Of the files in its folder."""
    sweep: str
    """The sweep whose child it is; empty: it is none."""

    @property
    def iterations(self) -> int | None:
        """Of a training; children of a sweep."""
        if self.kind == "sweep":
            return len(self.summary.get("children", ())) or None
        found = self.summary.get("iterations")
        return int(found) if found is not None else None

    @property
    def accuracy(self) -> Share | None:
        """The final one of a training, that of an evaluation's first benchmark, a sweep's best, a profile's mean."""
        found: Any = None
        match self.kind:
            case "training":
                found = self.summary.get("final")
            case "evaluation":
                found = next((entry["metrics"] for entry in self.summary.get("entries", ())), None)
                return _share(found[0], "value") if found else None
            case "sweep":
                found = next(iter(self.summary.get("ranking", ())), None)
            case "profile":
                return _share(self.summary, "pass_rate")
        return _share(found, "accuracy")


def _share(found: Any, key: str) -> Share | None:
    if not found or found.get(key) is None or found.get("stderr") is None:
        return None
    return Share(value=found[key], stderr=found["stderr"], n=found["n"])


def find(root: str) -> list[Run]:
    """All runs under a root, the newest first. A folder that is no run is passed over."""
    fs, path = opened(root)
    try:
        entries = with_retries(lambda: fs.ls(path, detail=True))
    except (FileNotFoundError, NotADirectoryError):
        return []
    names = [entry["name"].rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "directory"]
    children = {child: name for name in names for child in _children(root, name)}
    found = (read(root, name, children.get(name, "")) for name in names)
    return sorted((one for one in found if one), key=lambda one: one.changed, reverse=True)


def read(root: str, name: str, sweep: str = "") -> Run | None:
    """A run; None where the name is no run's. Raises NameTaken for files that cannot be read."""
    try:
        owner = runs.holder(root, name)
    except layout.BadName:
        return None
    if owner is None:
        return None
    fs, path = opened(layout.run(root, name))
    files = with_retries(lambda: fs.find(path, detail=True))
    summary = _summary(root, name)
    last = layout.summary(root, name) if summary else layout.owner(root, name)
    changed = with_retries(lambda: fs.modified(opened(last)[1]))
    if changed.tzinfo is None:
        changed = changed.replace(tzinfo=datetime.UTC)
    size = sum(info["size"] for info in files.values())
    return Run(name, owner.kind, owner.recipe, bool(summary), summary, changed, size, sweep)


def settings(root: str, name: str) -> dict[str, Any]:
    """The recipe as it ran, by its keys; empty if the run left none. It may be of another version of racro."""
    try:
        content = yaml.safe_load(read_file(layout.recipe(root, name)))
    except (FileNotFoundError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def claim(root: str, run: Run) -> Claim:
    """What it needs of the artifacts."""
    if run.kind == "sweep":
        return Claim()  # its children need them
    content = settings(root, run.name)
    folders = frozenset(POLICY.findall(json.dumps(content)))
    if run.finished:
        made = run.summary.get("policy")
        return Claim(frozenset([made["digest"]] if made else []), folders=folders)
    try:
        recipe = loading.parse(content, run.name) if content and run.kind == "training" else None
    except loading.BadRecipe:
        recipe = None
    if recipe is None:
        return Claim(unknown=True)
    return Claim(trainings=frozenset(training_digests(recipe)), folders=folders)


def _children(root: str, name: str) -> list[str]:
    fs, path = opened(f"{root}/{name}/children")
    try:
        found = with_retries(lambda: fs.ls(path, detail=False))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [file.rpartition("/")[2].removesuffix(".json") for file in found]


def _summary(root: str, name: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(read_file(layout.summary(root, name)))
    except (FileNotFoundError, ValueError):
        return {}
    return content
