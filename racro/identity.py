"""One canonical digest for configurations, handles and plain values: the identity behind every cache key.

Artifact folders and recipe digests come from here too. A value without a defined identity is an error; falling back to
str() could make two different things equal.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from racro.config import Recipe
from racro.config.recipe import BESIDE
from racro.config.stages import STAGED
from racro.schema import Handle
from racro.schema.row import NeutralDefault


def fingerprint(value: Any) -> Any:
    """The JSON value that represents `value`. A handle stands for its content: equal elsewhere, too.

    Keys marked `NeutralDefault` are left out at their default. Raises TypeError for anything without an identity.
    """
    if isinstance(value, Handle):
        content = {k: v for k, v in value.model_dump(mode="json").items() if k not in value.EVIDENCE}
        return {"handle": type(value).__name__, **content}
    if isinstance(value, BaseModel):
        fields = ((name, getattr(value, name), field) for name, field in type(value).model_fields.items())
        return {name: fingerprint(content) for name, content, field in fields if not _neutral(content, field)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [fingerprint(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: fingerprint(item) for key, item in value.items()}
    raise TypeError(f"{type(value).__name__} has no identity; pass a config, a handle or a plain value (keys are text)")


def _neutral(content: Any, field: FieldInfo) -> bool:
    marked = any(isinstance(mark, NeutralDefault) for mark in field.metadata)
    return marked and content == field.get_default(call_default_factory=True)


def digest(value: Any) -> str:
    """Hex digest of the canonical JSON of `fingerprint(value)`."""
    text = json.dumps(fingerprint(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def computed(recipe: Recipe) -> dict[str, Any]:
    """The sections of a recipe that change the answer, and of each stage what it really does."""
    fields = ((name, getattr(recipe, name), field) for name, field in Recipe.model_fields.items() if name not in BESIDE)
    found = {name: value for name, value, field in fields if not _neutral(value, field)}
    if not recipe.stages:
        return found
    shared = {name: value for name, value in found.items() if name not in STAGED}
    stages = [
        {"start": stage.start} | {name: value for name, value in computed(phase).items() if name in STAGED}
        for stage, phase in zip(recipe.stages, recipe.phases, strict=True)
    ]
    return shared | {"stages": stages, "max_tokens": recipe.rollout.max_tokens}  # the last, of captions in evaluations


def recipe_digest(recipe: Recipe) -> str:
    """Digest of what a recipe computes."""
    return digest(computed(recipe))


def judging_digest(recipe: Recipe) -> str:
    """Digest of what makes policies comparable: the reasoner, and which problems are held out."""
    return digest([recipe.reasoner, recipe.problems, recipe.evaluation.problems, recipe.seed])
