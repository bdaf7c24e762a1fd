"""A command's first word, before what takes seconds: in a pipe nothing else shows that it works.

Called by `flows.cli` and `flows.station.starting`, once a command knows that it was given nothing that it refuses. So
it comes before libraries that are slow to import, and a mistake stays one line. Imports nothing but the standard
library.
"""

from __future__ import annotations

import sys


def say(what: str) -> None:
    """What is being done now, in a line on standard error; standard output is for what was asked."""
    print(f"racro: {what}", file=sys.stderr, flush=True)
