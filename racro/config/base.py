"""The base class of all sections of a recipe, and bounded numbers for their fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Config(BaseModel):
    """Frozen, without unknown keys; docstrings under fields become descriptions in forms."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


@dataclass(frozen=True)
class NeutralDefault:
    """Marks a key whose default changes nothing: at its default it is no part of the identity (`racro.identity`).

    For keys that are added to a section whose digests exist already: recipes that do not use the key keep theirs.
    """


Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]
