"""JSON as tables need it: no key may come twice in an object, and whole numbers may have any length."""

from __future__ import annotations

import json
from typing import Any

MAX_DIGITS = 4300
"""Python's limit for reading whole numbers; longer ones stay text."""


def parse(text: str) -> Any:
    """The value of a JSON text. Raises ValueError, and RecursionError for JSON that is nested too deeply."""
    return json.loads(text, object_pairs_hook=_object, parse_int=_whole)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two keys {twice!r} in one object")
    return found


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) < MAX_DIGITS else digits
