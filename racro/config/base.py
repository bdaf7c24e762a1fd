"""The base class of all sections of a recipe, and bounded numbers for their fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Config(BaseModel):
    """Frozen, without unknown keys; docstrings under fields become descriptions in forms."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def no_truth_value_for_a_number(cls, content: Any) -> Any:
        """`iterations: true` would be one iteration. Raises ValueError."""
        for name, value in content.items() if isinstance(content, dict) else ():
            expected = cls.model_fields[name].annotation if name in cls.model_fields else bool
            if isinstance(value, bool) and expected is not bool and bool not in get_args(expected):
                raise ValueError(f"{name}: give a value, not {str(value).lower()}")
        return content


@dataclass(frozen=True)
class NeutralDefault:
    """Marks a key whose default changes nothing: at its default it is no part of the identity (`racro.identity`).

    For keys that are added to a section whose digests exist already: recipes that do not use the key keep theirs.
    """


Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]
