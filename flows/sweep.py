"""Flow `sweep`: many trainings that differ in a few keys, ranked. Composition only.

points -> children (point x seed), each a training in a process of its own -> ranking. Children of one root share all
stages that they have in common; where two need the same at the same time, one makes it and the other waits
(`tasks.running.locks`). Seeds of a point run before the next point, so that children side by side share as little as
possible.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, as_completed
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.sweep_plan import check, child_name, distinct, require_room, sweep_name
from racro.config import Recipe
from racro.identity import digest, recipe_digest
from racro.models import devices
from racro.processes.child import python
from racro.storage import layout, runs
from racro.sweeps.axes import Sweep, propose
from racro.sweeps.ranking import Child, Outcome, SweepSummary, Trial, rank, standing, total
from tasks.recording import events, report, track
from tasks.running.progress import Progress
from tasks.running.signals import uncovered
from tasks.sweep import Children, ended, open_sweep, outcome, publish, run_child


def _run_name() -> str:
    parameters = flow_run.parameters
    recipe, plan = Recipe.model_validate(parameters["recipe"]), Sweep.model_validate(parameters["plan"])
    return parameters["run"] or sweep_name(recipe, plan)


@flow(name="sweep", flow_run_name=_run_name, persist_result=False, on_failure=[events.failed])
def sweep(recipe: Recipe, plan: Sweep, run: str | None = None, root: str = "runs") -> SweepSummary:
    """Train a recipe in many variants and rank them.

    Children that have ended are not run again; a failed one stops nobody, and the same sweep tries it again.

    Args:
        recipe: What the variants have in common.
        plan: What is varied, and how.
        run: Name of the sweep, with which its children's names begin; a digest when empty.
        root: Folder or URI (s3://...) for runs and artifacts.
    """
    started = time.monotonic()
    axes = check(recipe, plan)
    name = run or sweep_name(recipe, plan)
    require_room(name)
    devices.require(recipe)
    place = layout.absolute(root)
    report.check_root(place)
    asked = digest([plan.axes, plan.search, plan.seeds])  # other points would take the place of these in its ranking
    runs.take(place, name, runs.Owner(kind="sweep", recipe=recipe_digest(recipe), asked=asked))
    mlflow_run = open_sweep(name, place, plan.axes)
    trials = _Trials(plan, name, place, mlflow_run)
    try:
        with uncovered():
            proposals = propose(axes, plan.search, recipe.seed)
            points = next(proposals)
            while points:
                variants = distinct(recipe, axes, points)
                trials.run(variants)
                accuracies = [standing(trials.one(*distinct(recipe, axes, [point])[0])).accuracy for point in points]
                try:
                    points = proposals.send(accuracies)
                except StopIteration:
                    break
            summary = _summary(recipe, plan, name, trials, started)
            publish(recipe, summary, place)
    except BaseException as error:  # Ctrl-C and a cancellation too; raised again
        track.end_run(mlflow_run, error)
        raise
    return summary


class _Trials:
    """The points of one sweep, and their children."""

    def __init__(self, plan: Sweep, name: str, root: str, mlflow_run: str) -> None:
        self.plan, self.name, self.root, self.mlflow_run = plan, name, root, mlflow_run
        self.started = 0
        self.variants: dict[str, tuple[dict[str, Any], Recipe]] = {}

    def run(self, variants: Sequence[tuple[dict[str, Any], Recipe]]) -> None:
        """Run what has not ended yet, and wait for it."""
        self.variants |= {digest(values): (values, recipe) for values, recipe in variants}
        digests = {c.name: recipe_digest(c.recipe) for v in self.variants.values() for c in self._children(*v, {})}
        children = [child for variant in variants for child in self._children(*variant, digests)]
        waiting = [child for child in children if ended(child, digests[child.name]) is None]
        self.started += len(waiting)
        progress = Progress("children", "children")
        pool: ThreadPoolTaskRunner[State] = ThreadPoolTaskRunner(max_workers=self.plan.parallel)
        with pool as runner, Children(self.plan.parallel) as processes:
            futures: list[PrefectFuture[State]] = [
                runner.submit(
                    run_child,
                    {
                        "child": child,
                        "recipe_digest": digests[child.name],
                        "command": python("flows.sweep_child"),
                        "mlflow_run": self.mlflow_run,
                        "children": processes,
                    },
                )
                for child in waiting
            ]
            for done, _ in enumerate(as_completed(futures), 1):
                progress(done, len(futures))

    def one(self, values: dict[str, Any], recipe: Recipe) -> Trial:
        """A point with what became of its children."""
        found = (self._outcome(child) for child in self._children(values, recipe, {}))
        return Trial(values=values, children=tuple(found))

    def _outcome(self, child: Child) -> Outcome:
        identity = recipe_digest(child.recipe)
        known = outcome(child.root, child.sweep, child.name, identity)
        if known is None:
            raise RuntimeError(f"{child.name} left no outcome; run the same sweep again")
        return known

    def _children(self, values: dict[str, Any], recipe: Recipe, digests: dict[str, str]) -> list[Child]:
        seeds = range(recipe.seed, recipe.seed + self.plan.seeds)
        names = {seed: child_name(self.name, values, seed) for seed in seeds}
        return [
            Child(
                name=names[seed],
                recipe=recipe.model_copy(update={"seed": seed}),
                root=self.root,
                sweep=self.name,
                siblings={name: identity for name, identity in digests.items() if name != names[seed]},
                stop_hopeless=self.plan.stop_hopeless,
            )
            for seed in seeds
        ]


def _summary(recipe: Recipe, plan: Sweep, name: str, trials: _Trials, started: float) -> SweepSummary:
    every = [trials.one(*variant) for variant in trials.variants.values()]
    children = tuple(child for trial in every for child in trial.children)
    return SweepSummary(
        run=name,
        recipe_digest=recipe_digest(recipe),
        seed=recipe.seed,
        plan=plan,
        ranking=rank(every),
        children=children,
        started=trials.started,
        stages=total(children),
        seconds=round(time.monotonic() - started, 3),
        prefect_flow_run_id=str(flow_run.id),
        mlflow_run_id=trials.mlflow_run,
    )
