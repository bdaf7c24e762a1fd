"""Flow `profile`: how often the initial policy's captions of each training problem lead to the right answer.

Composition only. A training whose curriculum starts from a profile measures the same, from the same cache.
"""

from __future__ import annotations

import time

from prefect import flow
from prefect.runtime import flow_run
from pydantic import PositiveInt

from flows.problems import prepare_problems
from flows.sampling import pass_rates
from flows.training import default_name, run_name
from racro.config import Recipe
from racro.identity import digest, recipe_digest
from racro.models import devices
from racro.storage import layout, runs
from racro.summary import ProfileSummary
from tasks.prepare import adopt_captioner, adopt_reasoner
from tasks.profile import bands, publish
from tasks.recording import events, report, track
from tasks.recording.closing import closing
from tasks.running.stages import Stages


@flow(name="profile", flow_run_name=run_name, persist_result=False, on_failure=[events.failed])
def profile(recipe: Recipe, captions: PositiveInt = 4, run: str | None = None, root: str = "runs") -> ProfileSummary:
    """Measure the pass rates of a recipe's captioner on the training problems.

    Args:
        recipe: Problems, models and sampling.
        captions: Number of captions of each problem.
        run: Name of the run, a folder under the root; made of the recipe when empty.
        root: Folder or URI (s3://...) for runs and artifacts.
    """
    started = time.monotonic()
    name = run or f"{default_name(recipe)}-profile-{captions}"
    layout.named(root, name)  # a name that cannot be a folder is refused before anything starts
    devices.require(recipe)
    stages = Stages(layout.absolute(root), recipe.runtime)
    report.check_root(stages.root)
    runs.take(stages.root, name, runs.Owner(kind="profile", recipe=recipe_digest(recipe), asked=digest(captions)))
    mlflow_run = track.open_run(recipe, recipe_digest(recipe), name, stages.root)
    with closing(mlflow_run, stages.root, name):
        policy = adopt_captioner(recipe.captioner, recipe.runtime)
        reasoner = adopt_reasoner(recipe.reasoner, recipe.runtime)
        problems = prepare_problems(recipe, stages, heldout=None)
        track.log_problems(mlflow_run, "training", problems)
        rates = pass_rates(recipe, stages, problems, policy, reasoner, captions)
        record = Stages.record(rates)
        track.log_iteration(mlflow_run, 0, record.finished, {f"profile/{k}": v for k, v in record.metrics.items()})
        summary = ProfileSummary(
            run=name,
            recipe_digest=recipe_digest(recipe),
            captions=captions,
            pass_rate=record.metrics["pass_rate_mean"],
            stderr=record.metrics["pass_rate_stderr"],
            n=int(record.metrics["measured"]),
            unmeasured=int(record.metrics["unmeasured"]),
            bands=bands(rates),
            table=layout.profile(stages.root, name),
            stages=stages.totals,
            seconds=round(time.monotonic() - started, 3),
            prefect_flow_run_id=str(flow_run.id),
            mlflow_run_id=mlflow_run,
        )
        publish(recipe, summary, stages.root, problems, rates)
    return summary
