"""The base classes of all values: frozen models, and the rows of tables among them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Frozen; unknown fields are an error, so a foreign file cannot be mistaken for one of ours."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Row(Frozen):
    """One row of a table."""
