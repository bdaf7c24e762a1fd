"""Votes in MLflow: a trace for each answer that was voted on, with the vote as its feedback. For `racro serve --votes`.

A server without a store, or one that is away, costs a warning and never a vote, which is in the file already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlflow
from mlflow.entities import AssessmentSource, AssessmentSourceType

from tasks.recording import store, track
from tasks.running import telemetry

ASKED = ("question", "image_sha256")
NAME = "vote"
"""Of the feedback: true for a thumb up, false for one down."""


class Feedback:
    """The experiment of the trainings, where the traces of `racro answer --trace` are too."""

    def __init__(self) -> None:
        """Raises NoStore."""
        self.experiment = track.experiment_id(store.client())

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Record a line of the file of votes."""
        telemetry.attempt("a vote in MLflow", lambda: self._record(row))

    def _record(self, row: Mapping[str, Any]) -> None:
        asked = {name: row[name] for name in ASKED}
        said = {name: value for name, value in row.items() if name not in (*ASKED, "time", "vote", "model")}
        tags = {"racro.model": str(row["model"])}
        span = mlflow.start_span_no_context(
            "racro serve", "CHAIN", inputs=asked, tags=tags, experiment_id=self.experiment
        )
        span.end(outputs=said)
        mlflow.flush_trace_async_logging()
        source = AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id="racro serve")
        mlflow.log_feedback(trace_id=span.trace_id, name=NAME, value=row["vote"] == "up", source=source)
