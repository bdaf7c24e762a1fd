"""The embedded models from nothing, as tasks. Thin: `racro.embedded.rebuild` does it."""

from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from racro.embedded.recipe import EmbeddedRecipe
from tasks.running.progress import Progress


@task(name="rebuild reasoner", cache_policy=NO_CACHE, persist_result=False)
def rebuild_reasoner(out: Path, steps_scale: float) -> None:
    """Tokenizer and reasoner, into `out/reasoner`."""
    from racro.embedded import rebuild

    rebuild.rebuild_reasoner(out, _recipe(steps_scale), _Report())


@task(name="rebuild captioner", cache_policy=NO_CACHE, persist_result=False)
def rebuild_captioner(out: Path, steps_scale: float) -> None:
    """The captioner, into `out/captioner`."""
    from racro.embedded import rebuild

    rebuild.rebuild_captioner(out, _recipe(steps_scale), _Report())


@task(name="record recipe", cache_policy=NO_CACHE, persist_result=False)
def record_recipe(out: Path, steps_scale: float) -> None:
    """The recipe that made them, into `out/recipe.json`."""
    from racro.embedded import rebuild

    rebuild.write_recipe(out, _recipe(steps_scale))


def _recipe(steps_scale: float) -> EmbeddedRecipe:

    return EmbeddedRecipe().scaled(steps_scale)


class _Report:
    """Progress of a training, with its loss in the log."""

    progress: Progress | None = None

    def __call__(self, name: str, step: int, steps: int, loss: float) -> None:
        self.progress = self.progress or Progress(name, "steps")
        self.progress(step, steps)
        get_run_logger().info("%s: step %d of %d, loss %.3f", name, step, steps, loss)
