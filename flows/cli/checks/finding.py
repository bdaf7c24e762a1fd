"""What a check of `racro doctor` finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GIB = 2**30
State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the page."""

    state: State
    """note: nothing is broken, but something is missing that other uses need."""
    found: str
    remedy: str = ""
