"""What every row of a table is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Row(BaseModel):
    """One row of a table. Frozen; unknown fields are an error, so a foreign file cannot pass for ours."""

    model_config = ConfigDict(frozen=True, extra="forbid")
