"""Cells of somebody else's table: text is taken as it is, anything else is refused, never written out as Python.

Not their meaning: questions are read in `racro.data.rows`, gold answers in `racro.data.golds`, options in
`racro.data.options`.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

from racro.schema import DroppedRow

MAX_DETAIL = 300
"""Characters of a drop's detail, which may quote a whole cell."""
QUOTED = 60
"""Characters of a cell that is refused."""

_BROKEN = re.compile(r"[\0\ud800-\udfff]")


class Unusable(Exception):
    """A row that becomes no problem. `reason` is short and countable."""

    deliberate = False
    """Left out by the recipe rather than for a defect?"""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail

    def row(self, source: str, number: int) -> DroppedRow:
        """The drop as a row of a table, on one line and with every character storable."""
        detail = readable(" ".join(self.detail.split()))[:MAX_DETAIL]
        return DroppedRow(source=source, row=number, reason=self.reason, detail=detail, deliberate=self.deliberate)


class BadGold(Unusable, ValueError):
    """A gold answer, or options, that cannot be graded against."""


class Unreadable:
    """Stands for a cell that its file cannot give: broken UTF-8, a date outside the calendar."""


def readable(text: str) -> str:
    """The text with null characters and lone surrogates written as escapes."""
    return _BROKEN.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def sound(text: str, name: str) -> str:
    """The text itself. Raises Unusable for characters that UTF-8 or a database cannot store."""
    if found := _BROKEN.search(text):
        raise Unusable("broken characters", f"{name} holds {readable(found[0])} in {readable(text)[:QUOTED]!r}")
    return text


def text_of(value: Any, name: str, numbers: bool = False) -> str:
    """A cell as text without white space around it; "" for null. `numbers`: a number counts as text.

    `name` is the key of the column in `problems.columns`. Raises Unusable.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return sound(value, name).strip().removeprefix("\ufeff").lstrip()
    if numbers and is_number(value):
        return str(value)
    raise Unusable(f"{name} is no text", quoted(value))


def is_number(value: Any) -> bool:
    """A finite number; not a truth value."""
    if isinstance(value, Decimal):
        return value.is_finite()
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def quoted(value: Any) -> str:
    """A cell for an error message: its type and its beginning."""
    return readable(f"{type(value).__name__} {str(value)[:QUOTED]!r}")
