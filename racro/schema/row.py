"""The base classes of all values: frozen models, and the rows of tables among them."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Frozen; unknown fields are an error, so a foreign file cannot be mistaken for one of ours."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Row(Frozen):
    """One row of a table."""


@dataclass(frozen=True)
class NeutralDefault:
    """Marks a field whose default changes nothing: at its default it is no part of the identity (`racro.identity`).

    For fields that are added to something whose digests exist already: what does not use the field keeps its digest. A
    column of a row that is marked may be missing in tables that were written before.
    """
