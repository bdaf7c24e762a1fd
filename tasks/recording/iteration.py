"""What one iteration of a training made: its records, and its point of the curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from racro.curves import IterationPoint
from racro.data import origins
from racro.rewards import breakdown
from racro.rollouts import references
from racro.schedule import Round
from racro.schema import (
    Handle,
    Policy,
    Problem,
    ProblemTable,
    RewardTable,
    RolloutTable,
    ScoredRollout,
    ScoredTable,
    StandingTable,
    Verdict,
)
from racro.storage import artifacts
from tasks.running.stages import Stages


class Traits(NamedTuple):
    """What training problems are, by their uid."""

    known: Mapping[str, Problem]
    category: Mapping[str, str]
    origin: Mapping[str, str]
    """Empty where rows have none."""

    @classmethod
    def of(cls, problems: ProblemTable) -> Traits:
        """Of a table."""
        known = {problem.uid: problem for problem in artifacts.read_table(problems, Problem)}
        return cls(known, {uid: problem.category for uid, problem in known.items()}, origins.read(problems))


class Iteration(NamedTuple):
    """What one iteration of a training made."""

    round: Round
    sampled: Sequence[RolloutTable]
    """The captions with which it began, then those of each refill."""
    rewarded: Sequence[Mapping[str, RewardTable]]
    """Of each of these, and then of references: tables by the titles of the recipe's rewards, in its order."""
    scored: ScoredTable
    policy: Policy
    """The one after its update."""
    selected: StandingTable | None = None
    """The last selection of problems; None where the plain walk chose."""

    @property
    def rollouts(self) -> RolloutTable:
        """The captions with which it began."""
        return self.sampled[0]

    @property
    def rewards(self) -> Mapping[str, RewardTable]:
        """Their rewards."""
        return self.rewarded[0]

    def records(self) -> dict[str, artifacts.Record]:
        """The records of its stages, by the beginnings of their metrics' names."""
        handles: dict[str, Handle] = {
            **({"select": self.selected} if self.selected else {}),
            Stages.record(self.rollouts).stage: self.rollouts,
            **{f"reward/{title}": table for title, table in self.rewards.items()},
            "compose": self.scored,
            "update": self.policy,
        }
        return {name: Stages.record(handle) for name, handle in handles.items()}

    def breakdown(self, problems: Traits) -> dict[str, float]:
        """What is known of its captions as a whole, and by category and origin of their problems."""
        rows = list(references.own(artifacts.read_table(self.scored, ScoredRollout)))
        titles = list(self.rewards)
        return breakdown.overall(rows, problems.known) | {
            f"by_{trait}/{name}": value
            for trait, values in (("category", problems.category), ("origin", problems.origin))
            for name, value in breakdown.by_trait(rows, titles, values).items()
        }

    def point(self, found: Mapping[str, float]) -> IterationPoint:
        """Its point of the curves. `found`: its breakdown."""
        records = self.records()
        written, composed, update = (Stages.record(made) for made in (self.rollouts, self.scored, self.policy))
        rewards = {title: records[f"reward/{title}"] for title in self.rewards}
        answered = next((r.metrics for r in rewards.values() if f"verdict_{Verdict.CORRECT}" in r.metrics), {})
        return IterationPoint(
            iteration=self.round.number,
            stage=self.round.stage,
            objective=self.round.phase.objective,
            reward_mean=composed.metrics["reward_mean"],
            reward_stderr=composed.metrics["reward_stderr"],
            rewards={title: record.metrics["mean"] for title, record in rewards.items()},
            captions=self.scored.rows - int(composed.metrics.get("references", 0)),
            groups=int(composed.metrics["groups"]),
            informative_groups=int(composed.metrics["groups_informative"]),
            verdicts={v.value: int(answered[f"verdict_{v.value}"]) for v in Verdict} if answered else {},
            kl=update.metrics.get("kl"),
            entropy=update.metrics.get("entropy"),
            clip_ratio=update.metrics.get("clip_ratio"),
            importance_clipped=update.metrics.get("importance_clipped"),
            staleness_steps=update.metrics.get("staleness_steps"),
            staleness_nats=update.metrics.get("staleness_nats"),
            logprob_gap=update.metrics.get("logprob_gap"),
            caption_tokens_mean=written.metrics["tokens_mean"],
            pass_rate=found.get("pass_rate"),
            leaks=found.get("leaks") if self.round.phase.objective == "caption" else None,
            seconds={
                "caption": round(sum(Stages.record(table).seconds for table in self.sampled), 3),
                "rewards": round(
                    sum(Stages.record(table).seconds for own in self.rewarded for table in own.values())
                    + composed.seconds,
                    3,
                ),
                "update": update.seconds,
            },
        )
