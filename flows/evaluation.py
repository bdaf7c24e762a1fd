"""Flow `evaluate`: a policy on the held-out problems of a recipe, apart from any training.

Composition only. The policy is the best so far unless another is named; the same policy, problems and reasoner are not
evaluated twice.
"""

from __future__ import annotations

import time

from prefect import flow
from prefect.runtime import flow_run

from flows.training import default_name, evaluate_policy, prepare_problems, recipe_digest, run_name
from racro import layout
from racro.config import Recipe
from racro.summary import EvaluationSummary, PolicyRef
from tasks import publish, report, track
from tasks.choose import CHAMPION, choose
from tasks.closing import closing
from tasks.policies import absolute
from tasks.prepare import adopt_reasoner
from tasks.stages import Stages


@flow(name="evaluate", flow_run_name=run_name, persist_result=False)
def evaluate(recipe: Recipe, policy: str = CHAMPION, run: str | None = None, root: str = "runs") -> EvaluationSummary:
    """Evaluate a policy on a recipe's held-out problems.

    Args:
        recipe: Problems, reasoner and settings of the evaluation; engine and precision of the captioner.
        policy: `champion`, the best in MLflow; `initial`, the captioner as the recipe names it; or a policy's folder.
        run: Name of the run, a folder under the root; made of recipe and policy when empty.
        root: Folder or URI (s3://...) for runs and artifacts.
    """
    started = time.monotonic()
    layout.run(root, run or default_name(recipe))  # a name that cannot be a folder is refused before anything starts
    stages = Stages(absolute(root), recipe.runtime)
    report.check_root(stages.root)
    reasoner = adopt_reasoner(recipe.reasoner, recipe.runtime)
    heldout = prepare_problems(recipe, stages, heldout=recipe.evaluation.problems)
    chosen = choose(policy, recipe, reasoner, heldout)
    name = run or f"{default_name(recipe)}-policy-{chosen.digest[:8]}"
    mlflow_run = track.open_run(recipe, recipe_digest(recipe), name, stages.root)
    with closing(mlflow_run, stages.root, name):
        judged = evaluate_policy(recipe, stages, "evaluate", chosen, reasoner, heldout)
        score = report.log_evaluation(mlflow_run, 0, chosen, reasoner, heldout, judged)
        summary = EvaluationSummary(
            run=name,
            recipe_digest=recipe_digest(recipe),
            seed=recipe.seed,
            policy=PolicyRef(uri=chosen.uri, digest=chosen.digest),
            score=score,
            stages=stages.totals,
            seconds=round(time.monotonic() - started, 3),
            prefect_flow_run_id=str(flow_run.id),
            mlflow_run_id=mlflow_run,
        )
        publish.evaluation(recipe, summary, stages.root, judged)
    return summary
