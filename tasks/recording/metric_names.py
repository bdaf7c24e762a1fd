"""Names under which MLflow takes metrics. They hold categories, which are anybody's words: "(GradeSchool) Geometric".

Called by `tasks.recording.track`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH

from racro.identity import digest


def named(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics under such names, no two under one."""
    found: dict[str, float] = {}
    for name, value in metrics.items():
        parts = (re.sub(r"[^\w. :-]", "_", part) for part in name.split("/"))
        taken = "/".join(part if part.strip(" .") else "_" for part in parts)
        if taken in found or len(taken) > MAX_ENTITY_KEY_LENGTH:
            taken = f"{taken[: MAX_ENTITY_KEY_LENGTH - 10]} {digest(name)[:8]}"
        found[taken] = value
    return found
