"""The folder for this machine's own state: caches, locks, logs, local databases. `RACRO_HOME`, else `.racro`.

For commands it is the place of Prefect's and MLflow's state too, and of a station (`flows.station.local`).
"""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The folder as the environment names it now; it need not exist yet."""
    return Path(os.environ.get("RACRO_HOME") or ".racro")
