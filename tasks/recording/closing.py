"""The end of a flow with engines, however it comes: MLflow told, engines closed, their logs kept. Called by flows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from racro.cluster.session import belongs
from tasks.recording import report, track
from tasks.running.engines import release_all
from tasks.running.signals import uncovered


@contextlib.contextmanager
def closing(mlflow_run: str, root: str, name: str) -> Iterator[None]:
    """Around a flow's work. What it raises is raised again."""
    belongs(root, name)
    try:
        with uncovered():
            yield
    except BaseException as error:  # Ctrl-C and a cancellation too: MLflow must not show them as running
        track.end_run(mlflow_run, error)
        raise
    finally:
        release_all()
        report.keep_logs(root, name)
