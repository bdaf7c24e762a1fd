"""The metrics of a training for people who look elsewhere: TensorBoard and Weights & Biases (`runtime.mirrors`).

Scalars with the names and steps that MLflow has. Nothing leaves the machine unless the user is logged in at wandb: then
wandb's own settings decide, WANDB_MODE above all.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from racro.config import Recipe
from racro.config.runtime import MirrorName
from racro.errors import BadInput
from racro.home import home


class NoMirror(BadInput):
    """A mirror whose package is not installed."""


class Mirror(Protocol):
    """Somewhere else that metrics go."""

    def log(self, step: int, when: float, metrics: Mapping[str, float]) -> None:
        """Metrics of one step. when: seconds since 1970."""

    def close(self, failed: bool) -> None:
        """Write what is left."""


def require(recipe: Recipe) -> None:
    """Raises NoMirror if a package is missing."""
    for name in recipe.runtime.mirrors:
        if importlib.util.find_spec(name) is None:
            raise NoMirror(
                f"runtime.mirrors: {name} is not installed; `pip install {name}`, or the extra: pip install "
                "'racro[mirrors]'"
            )


def opened(name: MirrorName, recipe: Recipe, run: str, identity: str) -> Mirror:
    """A mirror of one run. identity: the same for all attempts at this run."""
    if name == "tensorboard":
        return TensorBoard(home() / "tensorboard" / run)
    return Wandb(home() / "wandb", recipe, run, identity)


class TensorBoard:
    """An event file; `tensorboard --logdir .racro/tensorboard` shows all runs."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        shutil.rmtree(folder, ignore_errors=True)  # a run that goes on writes all of its points again
        self._writer = EventFileWriter(str(folder))

    def log(self, step: int, when: float, metrics: Mapping[str, float]) -> None:
        """One event for all metrics."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._writer.add_event(Event(wall_time=when, step=step, summary=Summary(value=values)))
        self._writer.flush()

    def close(self, failed: bool) -> None:
        """Write what is left."""
        self._writer.close()


class Wandb:
    """A run of the project `racro`. Offline if no account is set up: `wandb sync` uploads it later."""

    def __init__(self, folder: Path, recipe: Recipe, run: str, identity: str) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        known = "WANDB_MODE" in os.environ or "WANDB_API_KEY" in os.environ or Path("~/.netrc").expanduser().exists()
        settings = wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True)
        self._run: Any = wandb.init(
            project="racro",
            name=run,
            id=identity,
            resume="allow",
            dir=str(folder),
            config=recipe.model_dump(mode="json"),
            mode=None if known else "offline",
            settings=settings,
        )
        self._run.define_metric("*", step_metric="iteration")

    def log(self, step: int, when: float, metrics: Mapping[str, float]) -> None:
        """The step is a metric of its own: wandb's steps cannot be repeated."""
        self._run.log({"iteration": step, **metrics})

    def close(self, failed: bool) -> None:
        """Write what is left."""
        self._run.finish(exit_code=int(failed))
