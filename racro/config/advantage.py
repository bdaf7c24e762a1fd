"""Recipe section `advantage`: how rewards become advantages. `racro.rewards.advantage` computes them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from racro.config.base import Config, NeutralDefault


class AdvantageBase(Config):
    """What all estimators have."""

    type: str
    """Kind of estimator."""
    by_pass_rate: Annotated[str | None, NeutralDefault()] = None
    """Name of a reward with values from 0 to 1, usually `answer`. The advantages of a problem are multiplied by 1.5 if
    the mean of its group is at most 0.25, by 1.2 up to 0.75, and by 1 above. None: no factor."""


class GroupAdvantage(AdvantageBase):
    """(R - mean) / (deviation + 1e-6) within the group of a problem (GRPO)."""

    type: Literal["group"] = "group"


class NoneAdvantage(AdvantageBase):
    """R - mean of the group, not divided by anything (Dr. GRPO)."""

    type: Literal["none"] = "none"


class BatchAdvantage(AdvantageBase):
    """R - mean of the group, divided by the deviation of these differences in the whole iteration (REINFORCE++ with
    baseline)."""

    type: Literal["batch"] = "batch"


class EmaAdvantage(AdvantageBase):
    """R - mean of the group, divided by a moving deviation of the rewards of the problem's category (OneThinker)."""

    type: Literal["ema"] = "ema"
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Share of the moving moments that an iteration keeps of those before it."""
    least: Annotated[float, Field(gt=0)] = 1e-3
    """Smallest deviation that is divided by."""
    largest: Annotated[float, Field(gt=0)] = 5.0
    """Largest absolute advantage: a group with a larger one is divided by its own deviation instead."""


class GdpoAdvantage(AdvantageBase):
    """Each reward of the sum is centred and divided within the group by itself; the weighted sum of these is divided by
    its deviation in the whole iteration (GDPO)."""

    type: Literal["gdpo"] = "gdpo"


Advantage = Annotated[
    GroupAdvantage | NoneAdvantage | BatchAdvantage | EmaAdvantage | GdpoAdvantage, Field(discriminator="type")
]


def refusal(advantage: AdvantageBase, rewards: tuple[str, ...]) -> str | None:
    """Why this estimator and rewards of these names do not go together; None if they do."""
    if advantage.by_pass_rate is not None and advantage.by_pass_rate not in rewards:
        return (
            f"advantage.by_pass_rate: {advantage.by_pass_rate} is no reward of this recipe; name one of "
            f"{', '.join(rewards)}, whose mean in a group is the pass rate"
        )
    return None
