"""Which rows of a table the recipe leaves out: by origin, category and pass rate.

Not defects (`racro.data.rows`) and not contamination (`racro.data.contamination`). Filters come first: a row that they
leave out need not be usable.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from racro.config import ForeignProblems
from racro.data.cells import Unusable, quoted, text_of
from racro.data.rows import NO_CATEGORY, cell
from racro.data.sources import Row

UNKNOWN = "unknown"


class LeftOut(Unusable):
    """A row that a filter leaves out."""

    deliberate = True


class Traits(NamedTuple):
    """The properties that filters test."""

    origin: str
    category: str
    pass_rate: float | None


def select(row: Row, problems: ForeignProblems) -> Traits:
    """The traits of a row that is wanted. Raises LeftOut, and Unusable for cells that hold none."""
    columns = problems.columns
    traits = Traits(
        text_of(cell(row, columns.origin), "origin", numbers=True) or UNKNOWN,
        text_of(cell(row, columns.category), "category", numbers=True) or NO_CATEGORY,
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
    """None where it was not measured: null, not a number, or negative (ViRL39K writes -1)."""
    try:
        rate = math.nan if value is None else float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise Unusable("pass rate is no share", quoted(value)) from error
    if rate > 1:
        raise Unusable("pass rate is no share", f"{rate:g}")
    return rate if rate >= 0 else None
