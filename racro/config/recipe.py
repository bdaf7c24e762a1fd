"""The recipe: all sections together, and the conditions between them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt, model_validator

from racro.config.base import Config
from racro.config.models import Captioner, Reasoner
from racro.config.problems import EmbeddedProblems, Problems
from racro.config.runtime import Runtime
from racro.config.training import EvaluationSettings, RewardSettings, RolloutSettings, UpdateSettings


class Recipe(Config):
    """Everything that determines a training: the same recipe gives the same policy."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of all random choices: split, order of problems, sampling."""
    iterations: PositiveInt = 100
    """Number of rounds caption -> reason -> update (K)."""
    problems: Problems = EmbeddedProblems()
    """Where questions, images and gold answers come from."""
    captioner: Captioner = Captioner()
    """The model that is trained to write captions."""
    reasoner: Reasoner = Reasoner()
    """The frozen model that answers from captions."""
    rollout: RolloutSettings = RolloutSettings()
    """How captions are sampled."""
    reward: RewardSettings = RewardSettings()
    """How verdicts become rewards."""
    update: UpdateSettings = UpdateSettings()
    """How rewards change the policy (GRPO)."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """How and how often the policy is evaluated on held-out problems."""
    runtime: Runtime = Runtime()
    """Where and how fast it runs. Changes no result, no digest and no cache key."""

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.update.mini_batch > self.rollout.problems:
            raise ValueError(
                f"update.mini_batch ({self.update.mini_batch} problems) is larger than rollout.problems "
                f"({self.rollout.problems}): a mini-batch is a part of an iteration"
            )
        if self.update.freeze and self.captioner.lora is not None:
            raise ValueError("update.freeze: adapters change the language model only; leave it out, or captioner.lora")
        if self.update.optimizer != "adamw" and self.runtime.trainer.optimizer == "offload":
            raise ValueError(
                f"runtime.trainer.optimizer: offload keeps AdamW's moments in float32, and update.optimizer is "
                f"{self.update.optimizer}; choose one"
            )
        return self
