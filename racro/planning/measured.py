"""How fast was it here? Times, tokens and bytes of the stages that earlier runs left on a root, by kind of work.

A rate says nothing about another machine: records do not name theirs, so it is assumed that one root belongs to one
kind of machine. Whichever stage comes first in a training opens the engines and the trainer, whose seconds are in its
record; they are counted once for each training. What the first call of a kind takes besides is counted once.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from racro.engines import openings
from racro.planning.calls import kind, opens
from racro.storage import artifacts, layout, usage
from racro.storage.artifacts import Record
from racro.storage.files import is_local, opened, read_file, with_retries

SAMPLE = 200
"""Artifacts of each stage that are read, at most, the newest ones."""
SPREAD = 1.5
"""Ratio of the largest amount of work to the smallest from which a fixed part of the cost is told from the rest."""
TRAINER = "trainer/"
WEIGHTS = (".safetensors", ".bin")


class Line(NamedTuple):
    """A cost that is fixed + per * units."""

    fixed: float
    per: float

    def of(self, units: float) -> float:
        """The cost of so much work."""
        return self.fixed + self.per * units

    @classmethod
    def through(cls, points: Sequence[tuple[float, float]]) -> Line:
        """Through the medians at each amount of work; through 0 if the amounts hardly differ. Never falls."""
        groups: dict[float, list[float]] = defaultdict(list)
        for units, cost in points:
            groups[max(1.0, units)].append(cost)
        medians = {units: statistics.median(costs) for units, costs in groups.items()}
        through_zero = cls(0.0, statistics.median(cost / units for units, cost in medians.items()))
        if max(medians) < SPREAD * min(medians):
            return through_zero
        fit = statistics.linear_regression(list(medians), list(medians.values()))
        if fit.slope <= 0:
            return cls(statistics.median(medians.values()), 0.0)
        return cls(fit.intercept, fit.slope) if fit.intercept > 0 else through_zero


class Rate(NamedTuple):
    """What a kind of work costs."""

    seconds: Line
    first: float
    """Seconds more of the first call, engines left out."""
    bytes: Line
    tokens: float | None
    """Written for each unit."""
    records: int
    """On how many records this rests."""


@dataclass
class Measured:
    """What is known from a root."""

    rates: dict[str, Rate] = field(default_factory=dict)
    informative: dict[str, float] = field(default_factory=dict)
    """By the kind of update: captions that were trained on, for each that was scored."""
    weights: dict[str, float] = field(default_factory=dict)
    """By the kind of update: bytes of a policy's folder."""
    state: dict[str, float] = field(default_factory=dict)
    """By the kind of update: bytes of the trainer's state."""
    openings: dict[str, float] = field(default_factory=dict)
    """By the kind of an engine, or of the trainer (`calls.opens`): seconds until it is open."""
    between: Line | None = None
    """Seconds of a training outside of its stages, by its iterations: recording, reports, Prefect."""


class _Seen(NamedTuple):
    record: Record
    files: Mapping[str, int]
    units: float
    opened: Mapping[str, float]
    """Seconds for which it waited until engines and trainer were open, by their kind."""

    @property
    def seconds(self) -> float:
        """Of the work alone."""
        return max(0.0, self.record.seconds - sum(self.opened.values()))


def read(root: str, sample: int = SAMPLE) -> Measured:
    """From the records and summaries of a root. A root that does not exist knows nothing. Raises BadArtifact."""
    found = usage.files(root)
    by_stage: dict[str, list[str]] = defaultdict(list)
    for folder in _newest_first(root, found):
        by_stage[folder.split("/")[-2]].append(folder)
    folders = [folder for own in by_stage.values() for folder in own[:sample]]
    with ThreadPoolExecutor(usage.READERS) as pool:
        records = list(pool.map(artifacts.known_record, folders))
    known = [(record, found[folder]) for record, folder in zip(records, folders, strict=True) if record is not None]
    rows = {record.handle["digest"]: int(record.handle["rows"]) for record, _ in known}
    groups: dict[str, list[_Seen]] = defaultdict(list)
    for record, files in sorted(known, key=lambda one: one[0].finished):
        if (units := _units(record, rows)) is not None:
            groups[kind(record.stage, record.inputs)].append(_Seen(record, files, units, _opened(record)))
    made = Measured(between=_between(root))
    for name, seen in groups.items():
        made.rates[name] = _rate(seen)
        if seen[0].record.stage == "update":
            _policies(made, name, seen, rows)
    waits: dict[str, list[float]] = defaultdict(list)
    for one in itertools.chain.from_iterable(groups.values()):
        for key, seconds in one.opened.items():
            waits[key].append(seconds)
    made.openings = {key: statistics.median(found) for key, found in waits.items()}
    return made


def _opened(record: Record) -> dict[str, float]:
    kinds = opens(record.stage, record.inputs)
    found = {kinds[role]: record.metrics.get(openings.metric(role)) for role in kinds}
    return {key: seconds for key, seconds in found.items() if seconds is not None}


def _newest_first(root: str, folders: Iterable[str]) -> list[str]:
    """Those of the newest runs, so that what an update learned from is among what is read with it."""
    fs, path = opened(root)
    if not is_local(fs):
        return sorted(folders)  # a store would be asked about each
    written: dict[str, float] = {}
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):  # unfinished, or its files were removed
            written[folder] = os.path.getmtime(f"{path}{folder.removeprefix(root)}/{layout.RECORD}")
    return sorted(written, key=written.__getitem__, reverse=True)


def _units(record: Record, rows: Mapping[str, int]) -> float | None:
    return _trained(record, rows) if record.stage == "update" else float(record.handle["rows"])


def _trained(record: Record, rows: Mapping[str, int]) -> float | None:
    """Captions that an update trained on; None if the scored ones are not among the records that were read."""
    scored = rows.get(record.inputs.get("scored", {}).get("digest", ""))
    if scored is None or not record.metrics.get("groups"):
        return None
    return scored * record.metrics.get("groups_trained", 0.0) / record.metrics["groups"]


def _rate(seen: Sequence[_Seen]) -> Rate:
    later = seen[1:] or seen
    seconds = Line.through([(one.units, one.seconds) for one in later])
    tokens = [(one.record.metrics["tokens"], one.units) for one in seen if "tokens" in one.record.metrics and one.units]
    return Rate(
        seconds=seconds,
        first=max(0.0, seen[0].seconds - seconds.of(seen[0].units)),
        bytes=_table_bytes(seen),
        tokens=sum(count for count, _ in tokens) / sum(units for _, units in tokens) if tokens else None,
        records=len(seen),
    )


def _table_bytes(seen: Sequence[_Seen]) -> Line:
    """Of records and tables, policies left out. The record is what does not grow."""
    fixed = statistics.median(one.files.get(layout.RECORD, 0) for one in seen)
    line = Line.through([(one.units, float(sum(_tables(one).values()))) for one in seen])
    return Line(fixed + line.fixed, line.per)


def _tables(one: _Seen) -> dict[str, int]:
    """Of an update: only what it leaves whether its policy is kept or not."""
    if one.record.stage == "update":
        return {name: size for name, size in one.files.items() if name.endswith(layout.LINEAGE)}
    return {name: size for name, size in one.files.items() if name != layout.RECORD}


def _policies(made: Measured, name: str, seen: Sequence[_Seen], rows: Mapping[str, int]) -> None:
    shares = []
    for one in seen:
        if (trained := _trained(one.record, rows)) is not None:
            shares.append(trained / rows[one.record.inputs["scored"]["digest"]])
    if shares:
        made.informative[name] = statistics.fmean(shares)
    states = [size for one in seen if (size := sum(n for f, n in one.files.items() if TRAINER in f))]
    folders = [
        sum(n for f, n in one.files.items() if TRAINER not in f and not f.endswith((layout.RECORD, layout.LINEAGE)))
        for one in seen
        if any(f.endswith(WEIGHTS) and TRAINER not in f for f in one.files)
    ]
    if states:
        made.state[name] = statistics.median(states)
    if folders:
        made.weights[name] = statistics.median(folders)


def _between(root: str) -> Line | None:
    """Of trainings that executed something, by their number of iterations."""
    found: list[tuple[float, float]] = []
    for summary in _summaries(root):
        stages = summary.get("stages", {})
        if "iterations" in summary and any(total["executed"] for total in stages.values()):
            inside = sum(total["seconds"] for total in stages.values())
            found.append((summary["iterations"], max(0.0, summary["seconds"] - inside)))
    if not found:
        return None
    if len({iterations for iterations, _ in found}) == 1:  # most of it is the beginning and the end
        return Line(statistics.median(seconds for _, seconds in found), 0.0)
    return Line.through(found)


def _summaries(root: str) -> Iterable[dict[str, Any]]:
    fs, path = opened(root)
    for file in with_retries(lambda: fs.glob(f"{path}/*/summary.json")):
        with contextlib.suppress(ValueError, FileNotFoundError):  # cut off, or removed meanwhile
            yield json.loads(read_file(f"{root}/{file.split('/')[-2]}/summary.json"))
