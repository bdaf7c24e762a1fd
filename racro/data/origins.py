"""From which collection each problem comes: a file beside a table of problems, for metrics by origin.

Not a column: tables and their digests stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from racro.schema import ProblemTable
from racro.storage import artifacts

FILE = "origins.json"


def write(folder: str, origins: Mapping[str, str]) -> None:
    """Put it beside a table. `origins`: by uid."""
    artifacts.write_file(f"{folder}/{FILE}", json.dumps(origins, ensure_ascii=False).encode())


def read(problems: ProblemTable) -> dict[str, str]:
    """The origin of each problem, by uid; nothing where it is not known."""
    try:
        found: dict[str, str] = json.loads(artifacts.read_file(f"{problems.uri}/{FILE}"))
    except FileNotFoundError:  # made without origins
        return {}
    return found
