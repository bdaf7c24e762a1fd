"""Alarms of a training, found by `racro.drift`, to log, MLflow and Prefect's events; one that stops ends the run."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import get_run_logger

from racro.config import Recipe
from racro.curves import IterationPoint
from racro.drift import raised
from racro.summary import Raised
from tasks.recording import events, track


class Drifted(RuntimeError):
    """A training that went where its recipe does not want it to go."""


def watch(mlflow_run: str, run: str, recipe: Recipe, points: Sequence[IterationPoint]) -> list[Raised]:
    """All alarms so far; those of the last iteration are said now. Raises Drifted."""
    found = raised(recipe, points)
    for alarm in found:
        if alarm.iteration != points[-1].iteration:
            continue
        track.tag(mlflow_run, f"racro.alarm.{alarm.name}", alarm.line)
        figures = {"alarm": alarm.name, "iteration": alarm.iteration, "action": alarm.action}
        events.emit(events.DRIFT, run, f"{run}: {alarm.line}", figures)
        if alarm.action == "stop":
            raise Drifted(f"{alarm.line}. The run stops, because alarms.{alarm.name}.action is stop")
        get_run_logger().warning("alarm: %s", alarm.line)
    return found
