"""Flow `prune`: removes checkpoints that nobody needs any more. Composition only."""

from __future__ import annotations

from prefect import flow
from pydantic import NonNegativeInt, PositiveInt

from racro.storage import layout
from racro.storage.retention import Freed
from tasks import retention
from tasks.recording import events
from tasks.recording.report import check_root


@flow(name="prune", persist_result=False, on_failure=[events.failed])
def prune(root: str = "runs", last: PositiveInt = 2, every: NonNegativeInt = 0, dry_run: bool = False) -> Freed:
    """Remove checkpoints, except champions, the newest of each training and what a run under way may need.

    Results stay: a run whose checkpoints are pruned is still found in the cache.

    Args:
        root: Folder or URI (s3://...) for runs and artifacts.
        last: Checkpoints that are kept at the end of each training.
        every: Each so-many-th is kept as well; 0: none.
        dry_run: Only say what would be removed.
    """
    place = layout.absolute(root)
    check_root(place)
    return retention.prune(place, last, every or None, dry_run)
