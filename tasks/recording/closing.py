"""The end of a flow with engines, also a failed one: MLflow is told, engines are closed, their logs kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tasks.recording import report, track
from tasks.running.engines import release_all


@contextlib.contextmanager
def closing(mlflow_run: str, root: str, name: str) -> Iterator[None]:
    """Wraps a flow's work; errors pass through."""
    try:
        yield
    except BaseException:  # Ctrl-C and cancellations too: MLflow must not show the run as running
        track.fail_run(mlflow_run)
        raise
    finally:
        release_all()
        report.keep_logs(root, name)
