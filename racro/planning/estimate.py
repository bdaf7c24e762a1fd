"""What a training will take: its calls of stages, with the rates of earlier runs or of a simulated cluster.

What is not known is None, and is said. A cost of several trainings counts what they share once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from racro.config import Recipe
from racro.planning.calls import Call
from racro.planning.load import Load
from racro.planning.measured import Measured, Rate
from racro.planning.split import Found
from racro.schedule import STATES
from racro.schema import Frozen

ONCE = {"captions": ("caption", "solve"), "update": ("update",), "evaluation": ("aggregate",)}
"""Stages that a part has once each time that it runs."""
ORDER = ("preparation", "captions", "reward", "advantages", "update", "evaluation")


class Part(Frozen):
    """A part of a training, over all iterations that are not there yet."""

    name: str
    runs: int
    """Stages that would run."""
    cached: int
    """Stages whose results are on the root."""
    units: int | None
    """Captions, answers or problems of those that would run."""
    tokens: int | None
    """Written, on average."""
    tokens_most: int | None
    """Written, at most."""
    seconds: float | None
    bytes: int | None
    """Written to the root."""
    records: int
    """Records of earlier runs from which the seconds follow; 0: from none."""


class Plan(Frozen):
    """What a training, or the trainings of a sweep, will take."""

    trainings: int
    iterations: int
    """Of each."""
    parts: tuple[Part, ...]
    seconds: float | None
    """Of all that would run; None if a part is not known."""
    seconds_known: float
    """Of the parts that are known."""
    per_iteration: float | None
    """Seconds of an iteration that would run, evaluations left out."""
    bytes: int | None
    """Written to the root."""
    bytes_policies: int
    """Of these, evaluated policies and states of the trainer."""
    bytes_kept: int | None
    """Of these, left at the end: only the newest states of the trainer stay."""
    bytes_network: int | None
    """To a root elsewhere, and of weights to other nodes."""
    gpus: int | None
    cost: float | None
    """Money, at the given rate for each hour of a GPU."""
    assumptions: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def nothing(self) -> bool:
        """Would nothing run?"""
        return all(part.runs == 0 for part in self.parts)

    def priced(self, gpus: int | None, rate: float | None) -> Plan:
        """With the money that so many GPUs cost."""
        cost = gpus * rate * self.seconds / 3600 if gpus and rate and self.seconds is not None else None
        return self.model_copy(update={"gpus": gpus, "cost": cost})


class Costs:
    """Adds up what the calls of trainings cost."""

    def __init__(self, measured: Measured, load: Load | None = None, found: Found | None = None) -> None:
        self.measured, self.load, self.found = measured, load, found

    def estimate(self, recipe: Recipe, trainings: Sequence[Sequence[Call]], remote: bool) -> Plan:
        """The plan of trainings that differ in a few keys. remote: is the root on another machine?"""
        calls, opening = _distinct(trainings), self._opening(trainings)
        parts = tuple(self._part(name, own, opening[name]) for name, own in _by_part(calls).items())
        running = [call for call in calls if call.record is None]
        updates = sum(call.stage == "update" for call in running)
        known = sum(part.seconds or 0.0 for part in parts)
        seconds, between = None if any(part.seconds is None for part in parts) else known, self.measured.between
        if running and not self.found and between is not None:
            extra = between.fixed * len(trainings) + between.per * updates
            known, seconds = known + extra, None if seconds is None else seconds + extra
        if self.found is not None:
            known = self.found.run.seconds * updates / recipe.rounds if updates else known
            seconds = known
        written = None if any(part.bytes is None for part in parts) else sum(part.bytes or 0 for part in parts)
        kept = None if written is None else written - self._dropped(trainings)
        return Plan(
            trainings=len(trainings),
            iterations=recipe.rounds,
            parts=parts,
            seconds=seconds,
            seconds_known=known,
            per_iteration=self._per_iteration(parts, updates),
            bytes=written,
            bytes_policies=round(sum(self._policies(call) or 0.0 for call in running)),
            bytes_kept=kept,
            bytes_network=self._network(recipe, written, updates, remote),
            gpus=None,
            cost=None,
            assumptions=(),
            unknown=self._unknown(parts),
        )

    def _unknown(self, parts: Sequence[Part]) -> tuple[str, ...]:
        why = "not simulated" if self.found else "no record of such work on this root"
        slow = ", ".join(part.name for part in parts if part.seconds is None)
        large = ", ".join(part.name for part in parts if part.bytes is None)
        found = (f"{what} of {names}: {why}" for what, names in (("time", slow), ("bytes", large)) if names)
        return tuple(found)

    def _opening(self, trainings: Sequence[Sequence[Call]]) -> dict[str, float]:
        """Seconds until engines and trainer are open, by the part that comes first: once for each training."""
        found: dict[str, float] = defaultdict(float)
        done: set[str] = set()
        for calls in trainings:
            open_already: set[str] = set()
            for call in calls:
                if call.record is None and call.key not in done:
                    done.add(call.key)
                    for key in set(call.opens) - open_already:
                        found[call.part] += self.measured.openings.get(key, 0.0)
                    open_already |= set(call.opens)
        return found

    def _part(self, name: str, calls: Sequence[Call], opening: float) -> Part:
        running = [call for call in calls if call.record is None]
        rates = [self.measured.rates.get(call.kind) for call in running]
        units = [call.units for call in running]
        written = [self._tokens(call, rate) for call, rate in zip(running, rates, strict=True)]
        most = [call.most * call.units for call in running if call.most and call.units is not None]
        sizes = [self._bytes(call) for call in running]
        firsts = {call.kind: rate.first for call, rate in zip(running, rates, strict=True) if rate}
        times = self._seconds(name, running)
        return Part(
            name=name,
            runs=len(running),
            cached=len(calls) - len(running),
            units=None if None in units else sum(one or 0 for one in units),
            tokens=None if None in written else round(sum(one or 0.0 for one in written)),
            tokens_most=sum(most) if most else None,
            seconds=None if times is None else times + (0.0 if self.found else opening + sum(firsts.values())),
            bytes=None if None in sizes else round(sum(one or 0.0 for one in sizes)),
            records=0 if self.found else min((rate.records if rate else 0 for rate in rates), default=0),
        )

    def _seconds(self, name: str, running: Sequence[Call]) -> float | None:
        if self.found is not None:
            return self._simulated(name, running)
        total = 0.0
        for call in running:
            rate, units = self.measured.rates.get(call.kind), self._work(call)
            if rate is None or units is None:
                return None
            total += rate.seconds.of(units)
        return total

    def _simulated(self, name: str, running: Sequence[Call]) -> float | None:
        """The mean of the stages of the training, once for each time that the part would run."""
        assert self.found is not None and self.load is not None
        if name not in ONCE and not name.startswith("reward "):
            return None
        total, whole = 0.0, sum(phase.iterations for phase in self.load.phases)
        for phase, times in zip(self.load.phases, self.found.times, strict=True):
            own = defaultdict(float, captions=times.captions, update=times.update + times.weights)
            own["evaluation"] = times.describe + times.answer
            for (title, _, _), (_, seconds) in zip(phase.rewards, times.rewards, strict=True):
                own[f"reward {title}"] += seconds
            total += own[name] * phase.iterations / whole
        saving = self.found.times[0].save * sum(call.saves for call in running)
        return total * sum(call.stage in ONCE.get(name, (call.stage,)) for call in running) + saving

    def _tokens(self, call: Call, rate: Rate | None) -> float | None:
        if call.units is None:
            return None
        if self.load is None:
            return None if rate is None or rate.tokens is None else rate.tokens * call.units
        lengths = self.load.lengths
        if call.stage in ("caption", "solve", "describe"):
            return min(lengths.caption or 0, call.most or 0) * call.units
        if call.stage in ("answer", "reward-answer") and call.most:
            return (lengths.answer or 0) * call.units
        return None if call.stage.startswith("reward-") else 0.0

    def _work(self, call: Call) -> float | None:
        """Units that determine the time: of an update, the captions that are trained on."""
        if call.stage != "update" or call.units is None:
            return call.units
        share = self.measured.informative.get(call.kind)
        return None if share is None else call.units * share

    def _bytes(self, call: Call) -> float | None:
        rate, policies = self.measured.rates.get(call.kind), self._policies(call)
        if call.stage == "update":
            return None if policies is None else policies + (rate.bytes.of(0) if rate else 0.0)
        if rate is None:
            return 0.0 if self.load is not None else None
        return None if call.units is None else rate.bytes.of(call.units)

    def _policies(self, call: Call) -> float | None:
        """Bytes of the policy and of the trainer's state that an update leaves."""
        state, weights = self.measured.state.get(call.kind), self.measured.weights.get(call.kind)
        if self.load is not None:
            state, weights = state or self.load.state, weights or self.load.weights
        if (call.saves and state is None) or (call.keeps and weights is None):
            return None
        return (state or 0.0) * call.saves + (weights or 0.0) * call.keeps

    def _dropped(self, trainings: Iterable[Sequence[Call]]) -> int:
        """Bytes of states of the trainer that do not stay."""
        total = 0.0
        for calls in trainings:
            saving = [call for call in calls if call.record is None and call.saves]
            for call in saving[:-STATES]:
                state = self.measured.state.get(call.kind)
                total += state if state is not None else self.load.state if self.load else 0.0
        return round(total)

    def _network(self, recipe: Recipe, written: int | None, updates: int, remote: bool) -> int | None:
        weights = 0.0
        if recipe.runtime.cluster.type != "local" or self.found is not None:
            if self.load is None:
                return None
            weights = self.load.weights * updates
        if remote and written is None:
            return None
        return round(weights + (written or 0) * remote)

    def _per_iteration(self, parts: Sequence[Part], updates: int) -> float | None:
        inner = [part for part in parts if part.name not in ("preparation", "evaluation")]
        if not updates or any(part.seconds is None for part in inner):
            return None
        return sum(part.seconds or 0.0 for part in inner) / updates


def _distinct(trainings: Sequence[Sequence[Call]]) -> list[Call]:
    return list({call.key: call for calls in trainings for call in calls}.values())


def _by_part(calls: Iterable[Call]) -> dict[str, list[Call]]:
    found: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        found[call.part].append(call)
    order = {name: number for number, name in enumerate(ORDER)}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0].split()[0], len(order))))
