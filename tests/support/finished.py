"""The summary of a training that never ran, for tests of what reads finished runs."""

from __future__ import annotations

from pathlib import Path

from racro.models.folders import model_digest
from racro.summary import PolicyRef, Score, Summary


def summary(run: str, policy: Path) -> Summary:
    """Of a run with this policy."""
    score = Score(accuracy=0.5, stderr=0.1, n=8, truthful=None, states_asked=None, leaks=None)
    return Summary(
        run=run,
        recipe_digest="x",
        seed=0,
        iterations=1,
        optimizer_steps=1,
        base=score,
        final=score,
        policy=PolicyRef(uri=str(policy), digest=model_digest(policy)),
        stages={},
        seconds=1.0,
        prefect_flow_run_id="x",
        mlflow_run_id="x",
    )
