"""Which checkpoints may go, and their removal.

The policies of a training form a chain: the record of each update names the policy that it began with. Trainings that
differ only later on share a beginning, so the chains of a root are a tree. Not here: who is champion and what runs,
which MLflow knows (`tasks.retention`).
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
from racro.storage.files import opened, patiently

SETTINGS = ("captioner", "temperature", "config", "seed")
"""Inputs of an update that are the same all through a training."""


@dataclass(frozen=True)
class Checkpoint:
    """An update's artifact."""

    folder: str
    policy: str
    """Digest of the weights."""
    node: str
    """Digest of the policy with its step and its trainer's state."""
    parent: str
    """The same of the policy that it was made from."""
    training: str
    """See `training_digest`."""
    bytes: int
    """That pruning would free: 0 when it is pruned."""


class Freed(NamedTuple):
    """What pruning removed, or would remove."""

    folders: tuple[str, ...]
    bytes: int
    kept: int
    """Checkpoints that are still there."""
    running: tuple[str, ...]
    """Names of the runs under way, whose trainings were left alone."""


def training_digest(recipe: Recipe) -> str:
    """What tells the trainings of a root apart whose checkpoints a run of this recipe may need."""
    return digest(
        dict(zip(SETTINGS, (recipe.captioner, recipe.rollout.temperature, recipe.update, recipe.seed), strict=True))
    )


def find(root: str) -> list[Checkpoint]:
    """Every checkpoint under a root that is complete, or was and is pruned. Raises BadArtifact."""
    place = f"{root}/{layout.ARTIFACTS}/update"
    fs, path = opened(place)
    found = patiently(lambda: fs.find(path, detail=True))
    sizes: dict[str, int] = defaultdict(int)
    for file, info in found.items():
        name, _, rest = file.removeprefix(path).strip("/").partition("/")
        sizes[name] += info["size"] if rest not in artifacts.RECORDS else 0
    checkpoints = []
    for name, size in sorted(sizes.items()):
        record = artifacts.known_record(f"{place}/{name}")
        if record is not None:  # else somebody is writing it, or was killed while doing so
            policy = Policy(uri=f"{place}/{name}", **record.handle)
            training = digest({key: record.inputs[key] for key in SETTINGS})
            parent = digest(record.inputs["policy"])
            checkpoints.append(Checkpoint(policy.uri, policy.digest, digest(policy), parent, training, size))
    return checkpoints


def expendable(
    checkpoints: Sequence[Checkpoint],
    last: int,
    every: int | None,
    champions: Collection[str],
    running: Collection[str],
) -> list[Checkpoint]:
    """Those that nothing asks to keep.

    Kept: the `last` of each chain; each `every`-th, counted from the start of its chain; `champions`, by the digest of
    their weights; and all of the trainings in `running`, by their digest: a run that is resumed may look at any.
    """
    from_start, from_end = _distances(checkpoints)
    return [
        one
        for one in checkpoints
        if from_end[one.node] >= last
        and not (every and from_start[one.node] % every == 0)
        and one.policy not in champions
        and one.training not in running
    ]


def _distances(checkpoints: Iterable[Checkpoint]) -> tuple[dict[str, int], dict[str, int]]:
    """Of each node: updates from the initial policy, the first is 1; and to the nearest end of a chain, there 0."""
    # An update without any informative group gives back the policy it was given: no link of the chain.
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
