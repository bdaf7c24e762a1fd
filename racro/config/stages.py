"""Recipe section `stages`: parts of a training, each with what it does in another way than the recipe says.

A stage names what it changes; everything else is as the recipe's sections say. `Recipe.phases` puts the two together.
"""

from __future__ import annotations

import copy
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, PositiveInt, SerializerFunctionWrapHandler, create_model, model_serializer
from pydantic.fields import FieldInfo

from racro.config.advantage import Advantage
from racro.config.base import Config
from racro.config.curriculum import Curriculum
from racro.config.rewards import Rewards
from racro.config.training import RolloutSettings, UpdateSettings

Objective = Literal["caption", "answer"]
"""What the policy writes in a training: captions, or its own answers to the questions."""


class Changes(Config):
    """Some keys of a section. Those that were not given are as in the section, and are not there when it is dumped."""

    section: ClassVar[type[Config]]
    """The section."""

    @model_serializer(mode="wrap")
    def _given(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if name in self.model_fields_set}

    def given(self) -> dict[str, Any]:
        """What was given."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}


C = TypeVar("C", bound=Config)


def changes(section: type[C]) -> type[Changes]:
    """The same keys as the section's, with the same conditions on each, and none of them has to be there."""
    fields: dict[str, Any] = {
        name: (field.annotation, _optional(field)) for name, field in section.model_fields.items()
    }
    made: type[Changes] = create_model(
        f"{section.__name__}Changes", __base__=Changes, __doc__=section.__doc__, **fields
    )
    made.section = section
    return made


def _optional(field: FieldInfo) -> FieldInfo:
    made = copy.copy(field)
    made.default, made.default_factory = None, None
    made.json_schema_extra = lambda schema: schema.pop("default", None) and None  # type: ignore[assignment]
    return made


class TrainingStage(Config):
    """A part of a training: what differs from the recipe's own keys and sections. A list is given whole."""

    start: Literal["fresh", "continued"] = "fresh"
    """fresh: as a training of its own that begins with the policy so far: the optimizer and its warm-up begin anew, and
    the KL is measured to that policy (RAPID). continued: optimizer, warm-up and the KL's reference go on from the stage
    before."""
    objective: Objective | None = None
    """What the policy writes. None: as the recipe says."""
    iterations: PositiveInt | None = None
    """Number of rounds of this stage. None: as the recipe says."""
    curriculum: Curriculum | None = None
    """Curriculum of this stage in place of the recipe's."""
    rollout: changes(RolloutSettings) | None = None  # type: ignore[valid-type]
    """What differs from the recipe's `rollout`."""
    rewards: Rewards | None = None
    """Rewards of this stage in place of the recipe's."""
    advantage: Advantage | None = None
    """Estimator of this stage in place of the recipe's."""
    update: changes(UpdateSettings) | None = None  # type: ignore[valid-type]
    """What differs from the recipe's `update`."""


STAGED = tuple(name for name in TrainingStage.model_fields if name != "start")
"""Keys and sections of a recipe that a stage may change."""


def _begun(stages: tuple[TrainingStage, ...]) -> tuple[TrainingStage, ...]:
    if stages and stages[0].start == "continued":
        raise ValueError("the first stage has nothing to go on from; leave out its start")
    return stages


TrainingStages = Annotated[tuple[TrainingStage, ...], AfterValidator(_begun)]
