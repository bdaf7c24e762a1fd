"""Rollouts with rewards that a test chooses, and the advantages that follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from racro.rewards.composition import Term, compose
from racro.schema import RewardRow, Rollout, ScoredRollout, Verdict


def scored(rollouts: Sequence[Rollout], rewards: Sequence[float | None]) -> list[ScoredRollout]:
    """The rollouts, which stand together by problem, with these rewards."""
    rows = [
        RewardRow(
            uid=rollout.uid,
            sample=rollout.sample,
            value=reward,
            detail="",
            response="",
            verdict=Verdict.FAILED if reward is None else Verdict.CORRECT if reward else Verdict.WRONG,
        )
        for rollout, reward in zip(rollouts, rewards, strict=True)
    ]
    plain = [Rollout(**{name: getattr(rollout, name) for name in Rollout.model_fields}) for rollout in rollouts]
    return compose(plain, [rows], (Term(name="answer", weight=1.0, gate=None),))


def rescored(rollouts: Sequence[ScoredRollout], changes: Mapping[int, float | None]) -> list[ScoredRollout]:
    """The rollouts with other rewards for some of them, by place."""
    return scored(rollouts, [changes.get(place, row.reward) for place, row in enumerate(rollouts)])
