"""Flow `prepare`: what a training needs before it starts, the problems and the models, fetched, checked, counted.

Composition only. A training does the same by itself; this says beforehand whether the data is any good.
"""

from __future__ import annotations

from prefect import flow

from flows.problems import prepare_problems
from flows.training import run_name
from racro.config import Recipe
from racro.models import devices
from racro.schema import ProblemTable
from racro.storage import layout
from tasks.prepare import adopt_captioner, adopt_reasoner, frozen
from tasks.recording import events, publish, report
from tasks.running.stages import Stages


@flow(name="prepare", flow_run_name=run_name, persist_result=False, on_failure=[events.failed])
def prepare(recipe: Recipe, run: str | None = None, root: str = "runs") -> tuple[ProblemTable, ProblemTable]:
    """Prepare the problems of a recipe, training and held-out, and fetch its models.

    Args:
        recipe: Its sections `problems`, `captioner`, `reasoner` and `evaluation.problems` count here.
        run: Name of the flow run; made of the recipe when empty.
        root: Folder or URI (s3://...) for runs and artifacts.
    """
    devices.require(recipe)
    stages = Stages(layout.absolute(root), recipe.runtime)
    report.check_root(stages.root)
    captioner = adopt_captioner(recipe.captioner, recipe.runtime, frozen(recipe))
    models = captioner, adopt_reasoner(recipe.reasoner, recipe.runtime)
    problems = prepare_problems(recipe, stages, heldout=None)
    heldout = prepare_problems(recipe, stages, heldout=recipe.evaluation.problems)
    publish.preparation(problems, heldout, models)
    return problems, heldout
