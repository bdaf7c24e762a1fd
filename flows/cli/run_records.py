"""What is known of the runs of a root, from their folders and from MLflow: lists, comparisons, removal."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Sequence
from typing import Any, NamedTuple

from flows.cli import running
from racro.config import differences, loading
from racro.errors import BadInput
from racro.evaluation.outcomes import Gain, gain
from racro.identity import recipe_digest
from racro.schema import Share
from racro.storage import layout, overview, renaming, usage
from racro.storage.files import remove_folder
from racro.storage.overview import Run, settings

STATES = {"RUNNING": "under way", "FAILED": "failed", "KILLED": "stopped", "FINISHED": "unfinished"}
"""MLflow's words for a run without a summary -> ours."""


class NoRun(BadInput):
    """A name that no run has, or a run that does not allow what was asked."""


class Row(NamedTuple):
    """A run in the list."""

    run: str
    kind: str
    recipe: str
    """Name of a shipped recipe, or the beginning of the digest of another one."""
    state: str
    """finished, under way, failed, stopped, or unfinished where MLflow does not know more."""
    iterations: int | None
    accuracy: float | None
    stderr: float | None
    n: int | None
    when: datetime.datetime
    """When it finished, or began."""
    bytes: int
    """Of its folder, and of policies, captions and answers that belong to it; some may belong to others too."""
    sweep: str
    """Whose child it is."""

    @property
    def share(self) -> Share | None:
        """The accuracy."""
        if self.accuracy is None or self.stderr is None or self.n is None:
            return None
        return Share(value=self.accuracy, stderr=self.stderr, n=self.n)


class Compared(NamedTuple):
    """Runs beside each other."""

    runs: tuple[str, ...]
    accuracy: dict[str, Share | None]
    gains: dict[str, Gain | None]
    """Accuracy minus that of the first run."""
    recipes: dict[str, dict[str, Any]]
    """Key -> run -> value, where recipes differ."""


def rows(root: str) -> list[Row]:
    """All runs, the newest first."""
    found = overview.find(root)
    graph = usage.Graph(usage.find(root))
    sizes = {one.folder: one.bytes for one in graph.artifacts}
    states = _states(root, found)
    names = {recipe_digest(loading.load(name)): name for name in loading.names()}
    made = []
    for run in found:
        claim = overview.claim(root, run)
        own = frozenset() if claim.unknown else graph.claimed(claim)
        share = run.accuracy
        made.append(
            Row(
                run.name,
                run.kind,
                names.get(run.recipe_digest, run.recipe_digest[:8]),
                states[run.name],
                run.iterations,
                share.value if share else None,
                share.stderr if share else None,
                share.n if share else None,
                run.changed.replace(microsecond=0),
                run.bytes + sum(sizes[folder] for folder in own),
                run.sweep,
            )
        )
    return made


def row(root: str, name: str) -> Row:
    """One run. Raises NoRun."""
    _run(root, name)
    return next(row for row in rows(root) if row.run == name)


def compared(root: str, names: Sequence[str]) -> Compared:
    """Runs beside each other, the first one is what the others are compared with. Raises NoRun."""
    found = [_run(root, name) for name in dict.fromkeys(names)]
    if len(found) < 2:
        raise NoRun(f"{names[0]}: one run cannot be compared; name two or more")
    shares = {run.name: run.accuracy for run in found}
    first, *_ = shares.values()
    gains = {name: gain(first, share, {}) if first and share else None for name, share in shares.items()}
    recipes = differences.between({run.name: settings(root, run.name) for run in found})
    return Compared(tuple(shares), shares, gains, recipes)


def rename(root: str, name: str, new: str) -> None:
    """Give a run another name, here and in MLflow. Raises NoRun, NameTaken."""
    run = _run(root, name)
    if run.kind == "sweep" or run.sweep:
        what = f"a child of {run.sweep}" if run.sweep else "a sweep"
        raise NoRun(f"{name}: is {what}, whose children are known by their names; a sweep keeps its name")
    _ended(root, [run])
    renaming.rename(root, run, new)
    from tasks.recording import runs as records
    from tasks.recording import store

    records.rename(store.client(), root, name, new)


class Removal(NamedTuple):
    """Runs that go, and the artifacts that go with them."""

    root: str
    runs: tuple[Run, ...]
    artifacts: tuple[usage.Artifact, ...]
    notes: tuple[str, ...]
    """Why artifacts stay although no run needs them."""

    @property
    def megabytes(self) -> str:
        """What is freed."""
        return f"{(sum(run.bytes for run in self.runs) + sum(one.bytes for one in self.artifacts)) / 1e6:,.1f} MB"

    def lines(self) -> list[str]:
        """What goes, in lines for people."""
        found = [f"{run.kind} {layout.run(self.root, run.name)}, {run.bytes / 1e6:,.1f} MB" for run in self.runs]
        stages = dict.fromkeys(one.stage for one in self.artifacts)
        for stage in stages:
            own = [one.bytes for one in self.artifacts if one.stage == stage]
            found.append(f"{len(own)} of stage {stage} that no other run needs, {sum(own) / 1e6:,.1f} MB")
        return [*found, *self.notes, f"{self.megabytes} in all"]

    def carry_out(self) -> None:
        """Remove them, folders of runs last: if this is interrupted, the same command goes on."""
        usage.remove(self.artifacts)
        for run in self.runs:
            remove_folder(layout.run(self.root, run.name))


def removal(root: str, names: Sequence[str]) -> Removal:
    """What would go with these runs. Raises NoRun."""
    every = overview.find(root)
    chosen = [_run(root, name) for name in dict.fromkeys(names)]
    for run in chosen:
        if run.sweep and run.sweep not in names:
            raise NoRun(
                f"{run.name}: is a child of {run.sweep}, which ranks it; remove the sweep with all its children"
            )
    sweeps = {run.name for run in chosen if run.kind == "sweep"}
    gone = {run.name: run for run in [*chosen, *(run for run in every if run.sweep in sweeps)]}
    statuses, champions = _known(root)
    _ended(root, list(gone.values()), statuses)
    others = [overview.claim(root, run) for run in every if run.name not in gone]
    known = {run.name for run in every}
    under_way = sorted(name for name, status in statuses.items() if status == "RUNNING" and name not in known)
    others += [usage.Claim(unknown=True)] * bool(under_way)
    graph = usage.Graph(usage.find(root))
    chosen_claim = usage.together([overview.claim(root, run) for run in gone.values()])
    found = graph.removable(chosen_claim, others, champions)
    notes = []
    if crowned := len(graph.removable(chosen_claim, others, ())) - len(found):
        notes.append(f"{crowned} of stage update stay, because champions in MLflow are among them")
    if any(other.unknown for other in others):
        whose = [run.name for run in every if run.name not in gone and overview.claim(root, run).unknown] or under_way
        notes.append(f"all artifacts stay, because {', '.join(whose)} has not ended and may need any of them")
    return Removal(root, tuple(gone.values()), tuple(found), tuple(notes))


def _run(root: str, name: str) -> Run:
    layout.run(root, name)
    found = next((run for run in overview.find(root) if run.name == name), None)
    if found is None:
        raise NoRun(
            f"{name}: no run under {root} has this name; `racro runs list` shows them, --root names another root"
        )
    return found


def _ended(root: str, chosen: Sequence[Run], statuses: dict[str, str] | None = None) -> None:
    statuses = _known(root)[0] if statuses is None else statuses
    for run in chosen:
        if not run.finished and statuses.get(run.name) == "RUNNING":
            raise NoRun(
                f"{run.name}: is under way; stop it first. If it was killed, run its command again and end it by Ctrl-C"
            )


def _states(root: str, found: Sequence[Run]) -> dict[str, str]:
    """MLflow is asked only where a run has not finished."""
    statuses: dict[str, str] = {}
    if not all(run.finished for run in found):
        with contextlib.suppress(BadInput):  # a list is no reason to start a server
            statuses = _known(root)[0]
    return {
        run.name: "finished" if run.finished else STATES.get(statuses.get(run.name, ""), "unfinished") for run in found
    }


def _known(root: str) -> tuple[dict[str, str], set[str]]:
    """Status of each run, and digests of champions, from MLflow. Raises NoStore."""
    running.settle()
    from tasks.recording import runs as records
    from tasks.recording import store

    client = store.client()
    return records.statuses(client, root), records.champions(client)
