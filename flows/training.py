"""Flow `train`: all of RACRO. Composition only: which stage follows which, with which inputs.

prepare -> K x (caption -> reason -> update), evaluation at the start, every k iterations and at the end.
"""

from __future__ import annotations

import time
from collections import deque

from prefect import flow, get_run_logger
from prefect.runtime import flow_run

from flows.arms import evaluate_heldout
from racro.config import EmbeddedProblems, Recipe
from racro.identity import recipe_digest
from racro.models import colocation, devices
from racro.schema import (
    FingerprintTable,
    Parity,
    Policy,
    ProblemTable,
    QuestionTable,
    RolloutTable,
    ScoredTable,
)
from racro.storage import layout, runs
from racro.summary import PolicyRef, Summary
from tasks.caption import caption
from tasks.parity import parity
from tasks.prepare import (
    adopt_captioner,
    adopt_reasoner,
    fingerprint,
    prepare,
    prepare_table,
    prompt_readers,
    show,
    source_stamp,
)
from tasks.questions import benchmark_stamp, parts
from tasks.questions import load as load_questions
from tasks.reason import reason
from tasks.recording import report, track
from tasks.recording.closing import closing
from tasks.recording.report import Evaluated
from tasks.recording.track import Judge
from tasks.running.engines import keep
from tasks.running.stages import Stages
from tasks.running.trainer import drop_state
from tasks.update import update

STATES = 2
"""States of the trainer that a training keeps, the newest ones: one to go on from, one if that is damaged."""


def run_name() -> str:
    """Name of a flow run: its parameter `run`, or one made of its recipe."""
    parameters = flow_run.parameters
    return parameters["run"] or default_name(Recipe.model_validate(parameters["recipe"]))


def default_name(recipe: Recipe) -> str:
    """Name of a run that was given none: the same recipe, the same name."""
    return f"racro-{recipe_digest(recipe)[:8]}"


@flow(name="train", flow_run_name=run_name, persist_result=False)
def train(recipe: Recipe, run: str | None = None, root: str = "runs") -> Summary:
    """Train a captioner by caption-reward optimisation.

    Stages whose results are under the root already are not executed again.

    Args:
        recipe: What to do.
        run: Name of the run, a folder under the root; made of the recipe when empty.
        root: Folder or URI (s3://...) for runs and artifacts.
    """
    started = time.monotonic()
    name = run or default_name(recipe)
    layout.run(root, name)  # a name that cannot be a folder is refused before anything starts
    devices.require(recipe)
    colocation.require(recipe)
    stages = Stages(layout.absolute(root), recipe.runtime)
    report.check_root(stages.root)
    runs.take(stages.root, name, runs.Owner(kind="training", recipe=recipe_digest(recipe)))
    mlflow_run = track.open_run(recipe, recipe_digest(recipe), name, stages.root)
    with closing(mlflow_run, stages.root, name), track.system_metrics(mlflow_run):
        return _train(recipe, name, stages, mlflow_run, started)


def _train(recipe: Recipe, name: str, stages: Stages, mlflow_run: str, started: float) -> Summary:
    logger = get_run_logger()
    initial = adopt_captioner(recipe.captioner, recipe.runtime, recipe.update.freeze)
    reasoner = adopt_reasoner(recipe.reasoner, recipe.runtime)
    problems = prepare_problems(recipe, stages, heldout=None)
    heldout = prepare_problems(recipe, stages, heldout=recipe.evaluation.problems)
    track.log_problems(mlflow_run, "training", problems)
    track.log_problems(mlflow_run, "heldout", heldout)
    heldout_parts = parts(heldout)

    if recipe.captioner.engine.type != "scripted":  # a script has no log-probs
        stages.run(
            parity,
            "parity",
            Parity,
            problems=problems,
            policy=initial,
            captioner=recipe.captioner,
            rollout=recipe.rollout,
            max_gap=recipe.update.max_logprob_gap,
            seed=recipe.seed,
        )
    policy, states = initial, deque[Policy]()
    evaluations: list[Evaluated] = []
    iterations: list[tuple[RolloutTable, ScoredTable, Policy]] = []
    for k in range(recipe.iterations + 1):
        if _evaluated(recipe, k):
            arm = evaluate_heldout(recipe, stages, policy, reasoner, heldout_parts, f", iteration {k}")
            score = report.log_evaluation(mlflow_run, k, policy, Judge(reasoner, heldout), arm.entry)
            logger.info("iteration %d: accuracy %s %% (n = %d)", k, score.share.percent, score.n)
            evaluations.append(Evaluated(k, policy, score, arm.results, arm.entry))
        if k == recipe.iterations:
            break
        rollouts = stages.run(
            caption,
            f"caption {k}",
            RolloutTable,
            problems=problems,
            policy=policy,
            captioner=recipe.captioner,
            rollout=recipe.rollout,
            seed=recipe.seed,
            iteration=k,
            ahead=(recipe.reasoner, reasoner),
            max_unscored=recipe.reward.max_unscored,
        )
        scored = stages.run(
            reason,
            f"reason {k}",
            ScoredTable,
            rollouts=rollouts,
            problems=problems,
            policy=policy,
            captioner=recipe.captioner,
            reasoner_model=reasoner,
            reasoner=recipe.reasoner,
            reward=recipe.reward,
            seed=recipe.seed,
            iteration=k,
        )
        policy = stages.run(
            update,
            f"update {k}",
            Policy,
            scored=scored,
            problems=problems,
            policy=policy,
            initial=initial,
            captioner=recipe.captioner,
            temperature=recipe.rollout.temperature,
            config=recipe.update,
            seed=recipe.seed,
            keep=_evaluated(recipe, k + 1),
            save=(k + 1) % recipe.runtime.checkpoint_every == 0 or k + 1 == recipe.iterations,
        )
        iterations.append((rollouts, scored, policy))
        if policy.trainer_digest:
            states.append(policy)
        if len(states) > STATES:
            drop_state(states.popleft())
        report.log_iteration(mlflow_run, k, rollouts, scored, policy)

    if recipe.iterations:
        keep(policy, recipe.runtime)
    summary = Summary(
        run=name,
        recipe_digest=recipe_digest(recipe),
        seed=recipe.seed,
        iterations=recipe.iterations,
        optimizer_steps=policy.step,
        base=evaluations[0].score,
        final=evaluations[-1].score,
        policy=PolicyRef(uri=policy.uri, digest=policy.files),
        stages=stages.totals,
        seconds=round(time.monotonic() - started, 3),
        prefect_flow_run_id=str(flow_run.id),
        mlflow_run_id=mlflow_run,
    )
    report.publish(recipe, summary, stages.root, heldout, evaluations, iterations)
    return summary


def _evaluated(recipe: Recipe, k: int) -> bool:
    """Is the policy after k iterations evaluated on the held-out problems?"""
    return k % recipe.evaluation.every == 0 or k == recipe.iterations


def prepare_problems(recipe: Recipe, stages: Stages, heldout: int | None) -> ProblemTable:
    """The training problems, or that many held-out ones."""
    benchmarks = getattr(recipe.problems, "benchmarks", {})
    embedded = isinstance(recipe.problems, EmbeddedProblems)
    readers = {} if embedded else prompt_readers(recipe)
    problems = stages.run(
        prepare if embedded else prepare_table,
        "prepare training problems" if heldout is None else "prepare held-out problems",
        ProblemTable,
        problems_config=recipe.problems,
        stamp=source_stamp(recipe.problems, heldout is not None),
        seed=recipe.seed,
        heldout=heldout,
        benchmarks=tuple(fingerprint_benchmark(stages, name, source) for name, source in benchmarks.items()),
        **readers,
    )
    if heldout is None:
        show(problems, "training", recipe.rollout.problems)
    else:
        show(problems, "heldout", heldout)
    return problems


def fingerprint_benchmark(stages: Stages, name: str, source: str | None) -> FingerprintTable:
    """What training rows are compared with; `source` None: the authors'."""
    stamp = benchmark_stamp(name, source, None)
    questions = stages.run(
        load_questions, f"load {name}", QuestionTable, name=name, source=source, columns=None, stamp=stamp
    )
    return stages.run(fingerprint, f"fingerprint {name}", FingerprintTable, name=name, questions=questions)
