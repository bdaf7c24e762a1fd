"""What every value of the project is made of: frozen models, and the rows of tables among them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A value that does not change. Unknown fields are an error, so a foreign file cannot pass for ours."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Row(Frozen):
    """One row of a table."""
