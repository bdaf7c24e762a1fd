"""Which rows of a table the recipe leaves out: by origin, category and pass rate.

Not defects (`racro.data.rows`) and not contamination (`racro.data.contamination`). Filters look at a row before
anything else does: what they leave out need not be usable.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from racro.config import ForeignProblems
from racro.data.rows import NO_CATEGORY, Unusable, cell
from racro.data.sources import Row

UNKNOWN = "unknown"


class LeftOut(Unusable):
    """A row that a filter leaves out."""


class Traits(NamedTuple):
    """What filters go by."""

    origin: str
    category: str
    pass_rate: float | None


def select(row: Row, problems: ForeignProblems) -> Traits:
    """The traits of a row that is wanted. Raises LeftOut, and Unusable for a pass rate that is none."""
    columns = problems.columns
    traits = Traits(
        str(cell(row, columns.origin, UNKNOWN)),
        str(cell(row, columns.category, NO_CATEGORY)),
        _pass_rate(cell(row, columns.pass_rate)),
    )
    if traits.origin in problems.without_origins:
        raise LeftOut(f"origin {traits.origin}", "problems.without_origins")
    if problems.categories and traits.category not in problems.categories:
        raise LeftOut("other category", traits.category)
    if traits.pass_rate is None and not problems.unrated:
        raise LeftOut("pass rate unknown", "problems.unrated")
    if traits.pass_rate is not None and not problems.min_pass_rate <= traits.pass_rate <= problems.max_pass_rate:
        raise LeftOut("pass rate outside", f"{traits.pass_rate:g}")
    return traits


def _pass_rate(value: Any) -> float | None:
    """None where nobody measured: null, not a number, or negative (ViRL39K writes -1)."""
    try:
        rate = math.nan if value is None else float(value)
    except (TypeError, ValueError) as error:
        raise Unusable("pass rate is no share", repr(value)) from error
    if rate > 1:
        raise Unusable("pass rate is no share", f"{rate:g}")
    return rate if rate >= 0 else None
