"""Does a training drift away from what it is for? Alarms from the points of its curves, as the recipe's `alarms` say.

Pure functions of the iterations so far, so that a resumed training sees what the first one saw. Each stage of a
training is looked at by itself, because another objective has other lengths. Nothing here stops or records anything
(`tasks.recording.alarms`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from racro.config import Recipe
from racro.config.alarms import Alarms
from racro.curves import IterationPoint
from racro.summary import AlarmName, Raised

Value = Callable[[IterationPoint], float | None]


class Seen(NamedTuple):
    """The points of a stage until one of its iterations."""

    points: Sequence[IterationPoint]
    phase: Recipe
    settings: Alarms

    def first(self, value: Value) -> float | None:
        """Mean of the first iterations; None if a value is missing or they are not over yet."""
        return _mean([value(point) for point in self.points[: self.settings.window]], self.settings.window)

    def last(self, value: Value) -> float | None:
        """Mean of the last iterations, none of which is among the first."""
        window = self.settings.window
        return _mean([value(point) for point in self.points[window:][-window:]], window)

    def both(self, value: Value) -> tuple[float, float] | None:
        """Both means."""
        first, last = self.first(value), self.last(value)
        return None if first is None or last is None else (first, last)

    @property
    def texts(self) -> str:
        """What the policy writes."""
        return "captions" if self.phase.objective == "caption" else "answers"

    def title(self, kind: str) -> str | None:
        """Name of the first reward of a kind."""
        return next((reward.title for reward in self.phase.rewards if reward.type == kind), None)


def raised(recipe: Recipe, points: Sequence[IterationPoint]) -> list[Raised]:
    """All alarms of a training so far, in order: in each stage, each of them once."""
    phases = recipe.phases
    found: dict[tuple[int, AlarmName], Raised] = {}
    for number, point in enumerate(points):
        stage = [other for other in points[: number + 1] if other.stage == point.stage]
        seen = Seen(stage, phases[point.stage], recipe.alarms)
        for name, line in _lines(seen):
            action = getattr(recipe.alarms, name).action
            if action != "ignore" and (point.stage, name) not in found:
                line = f"iteration {point.iteration}: {name}: {line}"
                found[point.stage, name] = Raised(name=name, iteration=point.iteration, action=action, line=line)
    return list(found.values())


def _lines(seen: Seen) -> Iterator[tuple[AlarmName, str]]:
    looks: dict[AlarmName, Callable[[Seen], str | None]] = {
        "length": _length,
        "descriptions": _descriptions,
        "leaks": _leaks,
        "entropy": _entropy,
        "gap": _gap,
        "kl": _kl,
    }
    for name, look in looks.items():
        if line := look(seen):
            yield name, line


def _length(seen: Seen) -> str | None:
    answer = seen.title("answer")
    quality: Value = (lambda p: p.rewards.get(answer)) if answer else (lambda p: p.reward_mean)
    lengths, values = seen.both(lambda p: p.caption_tokens_mean), seen.both(quality)
    limits = seen.settings.length
    if not lengths or not values or lengths[1] <= lengths[0] * (1 + limits.rise) or values[1] > values[0] + limits.gain:
        return None
    return (
        f"{seen.texts} grew from {lengths[0]:.3g} to {lengths[1]:.3g} tokens, and {answer or 'the reward'} went from "
        f"{values[0]:.3f} to {values[1]:.3f}; add a reward length or minimal, or lower rollout.max_tokens"
    )


def _descriptions(seen: Seen) -> str | None:
    title = seen.title("describes")
    shares = seen.both(lambda p: None if title is None else _plus_one(p.rewards.get(title)))
    if not shares or shares[1] >= shares[0] - seen.settings.descriptions.fall:
        return None
    return (
        f"{shares[1]:.1%} of the captions asked about describe an image, after {shares[0]:.1%}; raise the weight of "
        f"{title}, or look at captions for answers in place of descriptions"
    )


def _leaks(seen: Seen) -> str | None:
    shares = seen.both(lambda p: p.leaks)
    if not shares or shares[1] <= shares[0] + seen.settings.leaks.rise:
        return None
    return (
        f"{shares[1]:.1%} of the captions announce an answer, after {shares[0]:.1%}; add a reward describes with the "
        "gate answer, or raise its weight"
    )


def _entropy(seen: Seen) -> str | None:
    values = seen.both(lambda p: p.entropy)
    if not values or values[1] >= values[0] * seen.settings.entropy.left:
        return None
    return (
        f"the policy's entropy fell from {values[0]:.3g} to {values[1]:.3g} nats per token; raise "
        "update.entropy_bonus, update.beta or update.clip_high, or lower update.learning_rate"
    )


def _gap(seen: Seen) -> str | None:
    limit = seen.phase.update.max_logprob_gap
    value = _mean([p.logprob_gap for p in seen.points[-seen.settings.window :]], seen.settings.window)
    if value is None or value <= limit * seen.settings.gap.share:
        return None
    return (
        f"log-probs of engine and trainer differ by {value:.3g} nats per token; above update.max_logprob_gap = "
        f"{limit:g} the run stops; compare dtypes and versions of both (racro doctor), or raise it"
    )


def _kl(seen: Seen) -> str | None:
    value = _mean([p.kl for p in seen.points[-seen.settings.window :]], seen.settings.window)
    if value is None or value <= seen.settings.kl.nats:
        return None
    return (
        f"the policy is {value:.3g} nats per token from where its stage began; raise update.beta, or lower "
        "update.learning_rate"
    )


def _plus_one(value: float | None) -> float | None:
    """Of a reward that is 0 for yes and -1 for no: the share of yes."""
    return None if value is None else 1 + value


def _mean(values: Sequence[float | None], count: int) -> float | None:
    """The mean of so many finite values; None if there are fewer."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.fmean(known) if len(known) == len(values) == count else None
