"""The base class of all rows of tables."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Row(BaseModel):
    """One row of a table. Frozen; unknown fields are an error, so a foreign file cannot be mistaken for one of ours."""

    model_config = ConfigDict(frozen=True, extra="forbid")
