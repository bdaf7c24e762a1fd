"""Which artifacts of a root belong to which run, and which of them go when a run is removed.

Artifacts name what they were made from by digest, so they form a graph. A run claims the policy that it ended with or
was about, all policies from which that one was trained, and whatever was made with one of these: captions, rewards,
evaluations. Problems, and what the initial policy wrote, belong to no run in particular. Checkpoints alone:
`racro.storage.retention`.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from racro import schema
from racro.identity import digest
from racro.schema import Policy
from racro.storage import artifacts, layout
from racro.storage.files import opened, remove_folder, with_retries
from racro.storage.retention import SETTINGS

UPDATE = "update"
"""The stage whose artifacts are policies."""
READERS = 16
"""Records that are read at once, because a store answers in its own time."""


@dataclass(frozen=True)
class Artifact:
    """A complete or pruned artifact."""

    folder: str
    stage: str
    made: str
    """Digest of its handle: the name under which others have it among their inputs."""
    inputs: frozenset[str]
    bytes: int
    policy: str = ""
    """Of an update: digest of the weights."""
    training: str = ""
    """Of an update: see `racro.storage.retention.training_digests`."""


class Claim(NamedTuple):
    """What a run needs."""

    policies: frozenset[str] = frozenset()
    """Digests of the weights of policies that it ended with, or was about."""
    trainings: frozenset[str] = frozenset()
    """Trainings any of whose policies it may need, because it has not ended (`retention.training_digests`)."""
    folders: frozenset[str] = frozenset()
    """Names of updates whose policies its recipe takes for models by their place."""
    unknown: bool = False
    """It has not ended, and nothing says what it needs: all artifacts are taken for its own."""


def files(root: str) -> dict[str, dict[str, int]]:
    """Bytes of all files below each artifact's folder, by their names in it; complete or not."""
    place = f"{root}/{layout.ARTIFACTS}"
    fs, path = opened(place)
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for file, info in with_retries(lambda: fs.find(path, detail=True)).items():
        stage, _, rest = file.removeprefix(path).strip("/").partition("/")
        name, _, inner = rest.partition("/")
        if inner:
            found[f"{place}/{stage}/{name}"][inner] = info["size"]
    return found


def find(root: str) -> list[Artifact]:
    """All artifacts under a root; unfinished ones are left out. Raises BadArtifact."""
    sizes = {folder: sum(own.values()) for folder, own in sorted(files(root).items())}
    with ThreadPoolExecutor(READERS) as pool:
        records = list(pool.map(artifacts.known_record, sizes))
    return [
        _artifact(folder, record, size)
        for (folder, size), record in zip(sizes.items(), records, strict=True)
        if record is not None
    ]


def _artifact(folder: str, record: artifacts.Record, size: int) -> Artifact:
    kind = getattr(schema, record.handle_type, None)
    handle = kind(uri=folder, **record.handle) if kind else None
    policy = training = ""
    if record.stage == UPDATE and isinstance(handle, Policy):
        policy = handle.files
        training = digest({key: record.inputs[key] for key in SETTINGS})
    made = digest(handle) if handle else ""
    return Artifact(folder, record.stage, made, frozenset(_handles(record.inputs)), size, policy, training)


def _handles(value: Any) -> Iterator[str]:
    """Digests of the handles among a stage's inputs, however deep."""
    if isinstance(value, dict) and "handle" in value:
        yield digest(value)
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _handles(inner)


def together(claims: Sequence[Claim]) -> Claim:
    """What several runs need."""
    return Claim(
        frozenset().union(*(one.policies for one in claims)),
        frozenset().union(*(one.trainings for one in claims)),
        frozenset().union(*(one.folders for one in claims)),
        any(one.unknown for one in claims),
    )


class Graph:
    """The artifacts of a root, and what was made from what."""

    def __init__(self, found: Sequence[Artifact]) -> None:
        self.artifacts = found
        self._makers: dict[str, list[Artifact]] = defaultdict(list)
        for one in found:
            self._makers[one.made].append(one)
        self._owners: dict[str, frozenset[str]] = {}

    def claimed(self, claim: Claim) -> frozenset[str]:
        """Folders of all artifacts that a run with this claim may need, those of no run in particular left out."""
        if claim.unknown:
            return frozenset(one.folder for one in self.artifacts)
        chain = self._chain(claim)
        return frozenset(one.folder for one in self.artifacts if one.folder in chain or chain & self._trained(one))

    def removable(self, claim: Claim, others: Collection[Claim], kept: Collection[str]) -> list[Artifact]:
        """What goes with a run: what it claims and no other run does. Without other runs, everything.

        kept: digests of the weights of policies that stay in any case.
        """
        if not others:
            gone = frozenset(one.folder for one in self.artifacts)
        else:
            chain = self._chain(claim)
            used = frozenset().union(*(self.claimed(other) for other in others))
            own = (one for one in self.artifacts if one.folder in chain or self._within(chain, one))
            gone = frozenset(one.folder for one in own) - used
        return [one for one in self.artifacts if one.folder in gone and not (one.policy and one.policy in kept)]

    def _within(self, chain: frozenset[str], one: Artifact) -> bool:
        trained = frozenset() if one.stage == UPDATE else self._trained(one)
        return bool(trained) and trained <= chain

    def _chain(self, claim: Claim) -> frozenset[str]:
        """Folders of the updates that a claim names, and of all from which they were trained."""
        updates = [one for one in self.artifacts if one.stage == UPDATE]
        todo = [
            one
            for one in updates
            if one.policy in claim.policies
            or one.training in claim.trainings
            or one.folder.rpartition("/")[2] in claim.folders
        ]
        found = {one.folder for one in todo}
        for one in todo:  # grows while it is walked through
            before = [maker for maker in self._makers_of(one.inputs) if maker.stage == UPDATE]
            new = [maker for maker in before if maker.folder not in found]
            found |= {maker.folder for maker in new}
            todo += new
        return frozenset(found)

    def _makers_of(self, inputs: Iterable[str]) -> list[Artifact]:
        return [maker for name in inputs for maker in self._makers.get(name, ())]

    def _trained(self, one: Artifact) -> frozenset[str]:
        """Folders of the nearest updates on the ways back from an artifact that is no update; empty: there are none."""
        if one.stage == UPDATE:
            return frozenset()
        stack = [one]
        while stack:  # no recursion: a curriculum's artifacts form a chain as long as the training
            here = stack[-1]
            makers = self._makers_of(here.inputs)
            self._owners.setdefault(here.folder, frozenset())  # so that one made from itself does not ask for ever
            todo = [m for m in makers if m.stage != UPDATE and m.folder not in self._owners]
            if todo:
                stack += todo
                continue
            stack.pop()
            found = ({m.folder} if m.stage == UPDATE else self._owners[m.folder] for m in makers)
            self._owners[here.folder] = frozenset().union(*found)
        return self._owners[one.folder]


def remove(chosen: Iterable[Artifact]) -> None:
    """Remove artifacts. The record goes first: while it exists, everything that it lists does."""
    for one in chosen:
        for record in artifacts.RECORDS:
            with contextlib.suppress(FileNotFoundError):
                artifacts.delete_file(f"{one.folder}/{record}")
        remove_folder(one.folder)
