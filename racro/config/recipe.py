"""A recipe: everything that determines a training, and the machine it runs on."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt, model_validator

from racro.config.base import Config
from racro.config.models import Captioner, Reasoner
from racro.config.problems import EmbeddedProblems, Problems
from racro.config.runtime import Runtime
from racro.config.training import EvaluationSettings, RewardSettings, RolloutSettings, UpdateSettings


class Recipe(Config):
    """A training, completely: same recipe and seed, same policy."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of everything random."""
    iterations: PositiveInt = 100
    """Rounds of caption -> reason -> update (K)."""
    problems: Problems = EmbeddedProblems()
    """Where questions, images and gold answers come from."""
    captioner: Captioner = Captioner()
    """The trained model."""
    reasoner: Reasoner = Reasoner()
    """The frozen model."""
    rollout: RolloutSettings = RolloutSettings()
    """Sampling of captions."""
    reward: RewardSettings = RewardSettings()
    """From verdicts to rewards."""
    update: UpdateSettings = UpdateSettings()
    """GRPO."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """Held-out accuracy."""
    runtime: Runtime = Runtime()
    """The machine."""

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.update.mini_batch > self.rollout.problems:
            raise ValueError(
                f"update.mini_batch ({self.update.mini_batch} problems) is larger than rollout.problems "
                f"({self.rollout.problems}): a mini-batch is a part of an iteration"
            )
        return self
