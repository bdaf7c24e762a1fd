"""Which checkpoints may be removed.

The policies of a training form a chain: the record of each update names the policy it started from. Trainings whose
first iterations are equal share them, so the chains of a root form a tree. Not here: which policy is champion and which
runs are unfinished, which MLflow knows (`tasks.retention`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from racro.config import Recipe
from racro.identity import digest
from racro.schema import Policy
from racro.storage import artifacts, layout
from racro.storage.files import opened, with_retries

SETTINGS = ("captioner", "temperature", "config", "seed")
"""Inputs of an update that are the same throughout a stage of a training."""


@dataclass(frozen=True)
class Checkpoint:
    """The artifact of an update."""

    folder: str
    policy: str
    """Digest of the weights."""
    node: str
    """Digest of the policy together with its step and trainer state."""
    parent: str
    """The same digest of the policy it was made from."""
    initial: str
    """The same digest of the policy that its stage began with."""
    training: str
    """See `training_digests`."""
    bytes: int
    """Bytes that pruning would free; 0 if already pruned."""


class Freed(NamedTuple):
    """What pruning removed, or would remove in a dry run."""

    folders: tuple[str, ...]
    bytes: int
    kept: int
    """Number of checkpoints that are kept."""
    running: tuple[str, ...]
    """Names of unfinished runs, whose trainings were left alone."""


def training_digests(recipe: Recipe) -> tuple[str, ...]:
    """Identify the trainings of a root whose checkpoints a run of this recipe may need: one for each of its stages."""
    settings = ((one.captioner, one.rollout.temperature, one.update, one.seed) for one in recipe.phases)
    return tuple(dict.fromkeys(digest(dict(zip(SETTINGS, own, strict=True))) for own in settings))


def find(root: str) -> list[Checkpoint]:
    """All complete or pruned checkpoints under a root. Raises BadArtifact."""
    place = f"{root}/{layout.ARTIFACTS}/update"
    fs, path = opened(place)
    found = with_retries(lambda: fs.find(path, detail=True))
    sizes: dict[str, int] = defaultdict(int)
    for file, info in found.items():
        name, _, rest = file.removeprefix(path).strip("/").partition("/")
        sizes[name] += info["size"] if rest not in artifacts.RECORDS else 0
    checkpoints = []
    for name, size in sorted(sizes.items()):
        record = artifacts.known_record(f"{place}/{name}")
        if record is not None:  # otherwise a process is writing it, or was killed while writing
            folder = f"{place}/{name}"
            policy = Policy(uri=artifacts.files_of(folder, record), **record.handle)
            training = digest({key: record.inputs[key] for key in SETTINGS})
            parent = digest(record.inputs["policy"])
            initial = digest(record.inputs["initial"])
            checkpoints.append(Checkpoint(folder, policy.files, digest(policy), parent, initial, training, size))
    return checkpoints


def expendable(
    checkpoints: Sequence[Checkpoint],
    last: int,
    every: int | None,
    champions: Collection[str],
    running: Collection[str],
) -> list[Checkpoint]:
    """The checkpoints that need not be kept.

    Kept are: the `last` of each chain; every `every`-th, counted from the start of its chain; `champions`, given by the
    digest of their weights; and all of the trainings in `running`, given by their digest, because a resumed run may
    read any of its checkpoints. Then also the policies with which the stages of all these began: what is not kept
    beside them is made again from there.
    """
    from_start, from_end = _distances(checkpoints)
    chosen = [
        one
        for one in checkpoints
        if from_end[one.node] >= last
        and not (every and from_start[one.node] % every == 0)
        and one.policy not in champions
        and one.training not in running
    ]
    folders = {one.folder for one in chosen}
    begun = {one.initial for one in checkpoints if one.folder not in folders}
    return [one for one in chosen if one.node not in begun]


def _distances(checkpoints: Iterable[Checkpoint]) -> tuple[dict[str, int], dict[str, int]]:
    """For each node: updates from the initial policy (the first has 1) and to the nearest end of a chain (there 0)."""
    # An update without informative groups returns the policy it was given, so it is no link of the chain.
    parents = {one.node: one.parent for one in checkpoints if one.node != one.parent}
    nodes = {one.node for one in checkpoints}
    from_start: dict[str, int] = {}
    from_end: dict[str, int] = {}
    for node in nodes - set(parents.values()):
        distance, here = 0, node
        while here in nodes and distance < from_end.get(here, distance + 1):
            from_end[here] = distance
            distance, here = distance + 1, parents.get(here, "")
    for node in nodes:
        chain = [node]
        while chain[-1] not in from_start and parents.get(chain[-1]) in nodes:
            chain.append(parents[chain[-1]])
        start = from_start.get(chain[-1], 1)
        for distance, here in enumerate(reversed(chain)):
            from_start[here] = start + distance
    return from_start, from_end
