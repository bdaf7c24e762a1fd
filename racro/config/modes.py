"""Settings of the answering modes vote, best, clues and shots. No section of a recipe: what is trained is the same."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from racro.config.base import Config
from racro.config.rewards import Reward


class ModeSettings(Config):
    """How often is asked in the modes that ask more than once. A mode is identified by what it uses of this."""

    captions: Annotated[int, Field(ge=2, le=256)] = 5
    """vote, best: number of sampled captions of a question."""
    caption_temperature: Annotated[float, Field(gt=0)] = 1.0
    """vote, best: sampling temperature of these captions."""
    kind: Reward | None = None
    """best: the reward that chooses among the captions. It must need no gold answer."""
    clues: Annotated[int, Field(ge=1, le=20)] = 5
    """clues: number of sub-questions to a question, at most."""
    shots: Annotated[int, Field(ge=1, le=64)] = 4
    """shots: number of solved examples."""
