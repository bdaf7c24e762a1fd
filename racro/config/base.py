"""The base class of all sections of a recipe, and bounded numbers for their fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from racro.schema.row import NeutralDefault

__all__ = ["Config", "NeutralDefault", "Seconds", "Share", "models_in", "tag"]


class Config(BaseModel):
    """Frozen, without unknown keys; docstrings under fields become descriptions in forms."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def truth_values_are_no_numbers(cls, content: Any) -> Any:
        """`iterations: true` would be one iteration, and `streaming: 1` a truth value. Raises ValueError."""
        for name, value in content.items() if isinstance(content, dict) else ():
            if name not in cls.model_fields:
                continue
            expected = cls.model_fields[name].annotation
            if expected in (bool, bool | None):
                if isinstance(value, str | int | float) and not isinstance(value, bool):
                    raise ValueError(f"{name}: give true or false, not {value!r}")
            elif bool not in (types := _types(expected)) and not models_in(expected):
                kind = "number" if int in types or float in types else "value"
                for truth in _truths(value):
                    raise ValueError(f"{name}: give a {kind}, not {str(truth).lower()}")
        return content


def _types(annotation: Any) -> list[Any]:
    """What a field of this annotation can hold, also in lists, mappings and unions."""
    return [one for inner in get_args(annotation) for one in _types(inner)] or [annotation]


def _truths(value: Any) -> Iterator[bool]:
    """Truth values, also in lists and mappings."""
    if isinstance(value, bool):
        yield value
    elif isinstance(value, list | tuple | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _truths(one)


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
