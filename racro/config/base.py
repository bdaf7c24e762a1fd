"""The base class of all sections of a recipe, and bounded numbers for their fields."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from racro.schema.row import NeutralDefault

__all__ = ["Config", "NeutralDefault", "Seconds", "Share", "models_in", "tag"]


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


def tag(model: type[BaseModel]) -> str | None:
    """What `type` says of a union's member; None of other models."""
    field = model.model_fields.get("type")
    return None if field is None else str(get_args(field.annotation)[0])


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field of this annotation can hold, also in lists, mappings and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in getattr(annotation, "__args__", ()) for model in models_in(inner)]


Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]
