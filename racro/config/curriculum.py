"""Recipe section `curriculum`: which problems an iteration is about. `racro.rollouts.curriculum` draws them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from racro.config.base import Config, NeutralDefault, Share


class CurriculumBase(Config):
    """What all curricula have."""

    type: str
    """Kind of curriculum."""


class UniformCurriculum(CurriculumBase):
    """Iterations walk through all problems in random order, epoch after epoch."""

    type: Literal["uniform"] = "uniform"


class WeightedCurriculum(CurriculumBase):
    """Problems are drawn by a weight that follows from their latest group; never twice in an iteration."""

    profile: Annotated[PositiveInt | None, NeutralDefault()] = None
    """Number of captions of each problem from which the initial policy's pass rates are measured before the training,
    as the start. None: no measurement, and all problems are new at the start."""


class PoolsCurriculum(WeightedCurriculum):
    """Problems are hard, medium or easy by the mean reward of their latest group."""

    type: Literal["pools"] = "pools"
    hard: float = 0.25
    """Largest mean reward of a hard problem."""
    easy: float = 0.75
    """Mean reward above which a problem is easy."""
    hard_weight: Annotated[float, Field(ge=0)] = 0.2
    """How likely a hard problem is drawn, relative to others."""
    medium_weight: Annotated[float, Field(ge=0)] = 1.0
    """The same for the problems between."""
    easy_weight: Annotated[float, Field(ge=0)] = 0.2
    """The same for easy problems."""
    new_weight: Annotated[float, Field(ge=0)] = 1.0
    """The same for problems without a group so far."""

    @model_validator(mode="after")
    def _in_order(self) -> PoolsCurriculum:
        if self.hard >= self.easy:
            raise ValueError(f"hard ({self.hard:g}) must be below easy ({self.easy:g})")
        if not any((self.hard_weight, self.medium_weight, self.easy_weight, self.new_weight)):
            raise ValueError("all weights are 0, so no problem would be drawn; give one pool a weight")
        return self


class VarianceCurriculum(WeightedCurriculum):
    """The likelier a problem is drawn, the more the rewards of its latest group varied."""

    type: Literal["variance"] = "variance"
    floor: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Smallest weight. The problem whose rewards varied most has weight 1, and so have new ones."""


class OrderCurriculum(CurriculumBase):
    """Categories one after the other."""

    type: Literal["order"] = "order"
    categories: Annotated[tuple[str, ...], Field(min_length=1)]
    """Categories of problems, in this order."""
    shares: tuple[Share, ...] | None = None
    """Share of the iterations for each category; they add up to 1. None: equal shares."""

    @model_validator(mode="after")
    def _whole(self) -> OrderCurriculum:
        if len(set(self.categories)) < len(self.categories):
            raise ValueError("a category is named twice; name each once")
        if self.shares is not None and len(self.shares) != len(self.categories):
            raise ValueError(f"{len(self.shares)} shares for {len(self.categories)} categories; give each one a share")
        if self.shares is not None and abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError(f"shares add up to {sum(self.shares):g}, not to 1")
        return self

    def phase(self, iteration: int, iterations: int) -> tuple[str, int]:
        """The category of an iteration, and how many iterations of that category came before it."""
        shares = self.shares or tuple(1 / len(self.categories) for _ in self.categories)
        first, end = 0, 0.0
        for category, share in zip(self.categories, shares, strict=True):
            end += share
            last = round(end * iterations)
            if iteration < last:
                return category, iteration - first
            first = last
        return self.categories[-1], iteration - first


Curriculum = Annotated[
    UniformCurriculum | PoolsCurriculum | VarianceCurriculum | OrderCurriculum, Field(discriminator="type")
]
