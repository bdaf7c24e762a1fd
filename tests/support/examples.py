"""How many examples a property-based test draws that does not draw the usual number.

`make quick` draws a fifth of what `make test` draws (`tests/conftest.py` has both profiles).
"""

from __future__ import annotations

from hypothesis import settings

USUAL = 100
"""Examples of a test that names no number, in `make test`."""
FEWEST = 4


def examples(count: int) -> int:
    """`count`, in the proportion of the profile in use."""
    return max(min(count, FEWEST), count * settings.default.max_examples // USUAL)
