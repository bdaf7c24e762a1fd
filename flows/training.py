"""Flow `train`: all of RACRO. Composition only: which stage follows which, with which inputs.

prepare -> for each stage K x (captions with their scores; `flows.sampling` -> update), evaluation at the start, every k
iterations and at the end of each stage. With `rollout.lag` captions of the next iteration are made beside the update.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack

from prefect import flow, get_run_logger
from prefect.runtime import flow_run

from flows.arms import evaluate_heldout
from flows.outlook import outlook
from flows.problems import prepare_problems
from flows.rehearsal import Models
from flows.sampling import Batch, agreement, learning, sample, starting_point
from racro import mirrors
from racro.config import Recipe, loading
from racro.identity import recipe_digest
from racro.models import colocation, devices
from racro.rewards import kinds, places
from racro.schedule import STATES, evaluated, rounds
from racro.schema import Policy
from racro.storage import artifacts, layout, runs
from racro.summary import PolicyRef, Summary
from tasks import refer
from tasks.prepare import adopt_captioner, adopt_judges, adopt_reasoner, frozen
from tasks.questions import parts
from tasks.recording import approval, events, report, track
from tasks.recording.closing import closing
from tasks.recording.iteration import Iteration
from tasks.recording.live import Live
from tasks.recording.made import Made
from tasks.recording.mirrors import mirrored
from tasks.recording.registry import Judge
from tasks.recording.system import system_metrics
from tasks.running import progress, states, telemetry
from tasks.running.beside import beside
from tasks.running.engines import keep, on_disk
from tasks.running.stages import Stages
from tasks.select import require
from tasks.update import update


def run_name() -> str:
    """Name of a flow run: its parameter `run`, or one made of its recipe."""
    parameters = flow_run.parameters
    return parameters["run"] or default_name(Recipe.model_validate(parameters["recipe"]))


def default_name(recipe: Recipe) -> str:
    """Name of a run that was given none: the same recipe, the same name."""
    return f"racro-{recipe_digest(recipe)[:8]}"


@flow(name="train", flow_run_name=run_name, persist_result=False, on_failure=[events.failed])
def train(recipe: Recipe, run: str | None = None, root: str = "runs", approve: bool = False) -> Summary:
    """Train a captioner by caption-reward optimisation.

    Stages whose results are under the root already are not executed again.

    Args:
        recipe: What to do.
        run: Name of the run, a folder under the root; made of the recipe when empty.
        root: Folder or URI (s3://...) for runs and artifacts.
        approve: Pause the run and ask here before a better policy becomes champion.
    """
    started = time.monotonic()
    name = run or default_name(recipe)
    layout.named(root, name)  # a name that cannot be a folder is refused before anything starts
    devices.require(recipe)
    colocation.require(recipe)
    mirrors.require(recipe)
    if approve:
        approval.require()
    for phase in recipe.phases:
        kinds.require(phase.rewards)
    stages = Stages(layout.absolute(root), recipe.runtime)
    report.check_root(stages.root)
    runs.take(stages.root, name, runs.Owner(kind="training", recipe=recipe_digest(recipe)))
    artifacts.write_file(layout.recipe(stages.root, name), loading.dump(recipe).encode())
    mlflow_run = track.open_run(recipe, recipe_digest(recipe), name, stages.root)
    with closing(mlflow_run, stages.root, name), system_metrics(mlflow_run), mirrored(recipe, name, stages.root):
        return _train(recipe, name, stages, mlflow_run, started, approve)


def _train(recipe: Recipe, name: str, stages: Stages, mlflow_run: str, started: float, approve: bool) -> Summary:
    initial = adopt_captioner(recipe.captioner, recipe.runtime, frozen(recipe))
    scores = any(reward.scores for phase in recipe.phases for reward in phase.rewards)
    reasoner = adopt_reasoner(recipe.reasoner, recipe.runtime, scores)
    judges = adopt_judges(recipe)
    models = Models(initial, reasoner, judges)
    problems = prepare_problems(recipe, stages, heldout=None)
    heldout = prepare_problems(recipe, stages, heldout=recipe.evaluation.problems)
    track.log_problems(mlflow_run, "training", problems)
    track.log_problems(mlflow_run, "heldout", heldout)
    for phase in recipe.phases:
        require(problems, phase.curriculum)
    refer.require(recipe, problems, initial)
    heldout_parts = parts(heldout)

    telemetry.attempt("the outlook on a training", lambda: _say_what_is_ahead(recipe, stages, models))
    agreement(recipe, stages, problems, initial)
    policy, with_states = initial, deque[Policy]()
    made = Made(recipe, name, stages, mlflow_run, Judge(reasoner, heldout), problems)
    live = Live(made)

    def evaluate(k: int) -> None:
        arm = evaluate_heldout(recipe, stages, policy, reasoner, heldout_parts, f", iteration {k}")
        live.evaluated(k, policy, arm.results, arm.entry)

    _say_what_overlaps(recipe)
    batch: Batch | None = None
    ahead: Batch | None = None
    for one, following in itertools.pairwise([*rounds(recipe), None]):
        assert one is not None
        if one.fresh:
            initial, batch = policy, None
            keep(initial, recipe.runtime)
            profile = starting_point(one.phase, stages, problems, initial, reasoner)
        if evaluated(recipe, one.number):
            evaluate(one.number)
        batch = ahead or sample(one, stages, problems, policy, reasoner, judges, batch, profile)
        ahead = None
        taking = learning(one, batch, problems, policy, initial)
        take = functools.partial(
            stages.run,
            update,
            f"update {one.number}",
            Policy,
            **taking,
            keep=evaluated(recipe, one.number + 1),
            save=one.save,
            remember=following is not None and following.ahead,
        )
        if following is not None and following.ahead:
            write = functools.partial(sample, following, stages, problems, policy, reasoner, judges, batch, profile)
            updates = policy.has_folder and not stages.known(update, **taking)
            policy, ahead = _together(take, write, policy if updates else None, following.phase)
        else:
            policy = take()
        if policy.trainer_digest:
            with_states.append(policy)
        if len(with_states) > STATES:
            states.drop(with_states.popleft())
        live.iterated(Iteration(one, batch.made.rollouts, batch.rewarded, batch.scored, policy, batch.selected))
    evaluate(recipe.rounds)

    keep(policy, recipe.runtime)
    summary = Summary(
        run=name,
        recipe_digest=recipe_digest(recipe),
        seed=recipe.seed,
        iterations=recipe.rounds,
        optimizer_steps=policy.step,
        base=made.evaluations[0].score,
        final=made.evaluations[-1].score,
        alarms=tuple(made.alarms),
        policy=PolicyRef(uri=policy.uri, digest=policy.files),
        stages=stages.totals,
        seconds=round(time.monotonic() - started, 3),
        prefect_flow_run_id=str(flow_run.id),
        mlflow_run_id=mlflow_run,
    )
    files = report.publish(made, summary)
    crown = not approve or approval.granted(track.champion_moves(mlflow_run), recipe.runtime.timeouts.approval)
    track.close_run(mlflow_run, files, crown)
    return summary


def _together(
    take: Callable[[], Policy], write: Callable[[], Batch], writer: Policy | None, phase: Recipe
) -> tuple[Policy, Batch]:
    """An update, and captions with their scores by the policy before it; at the same time where that is possible.

    `writer`: that policy, if the update is going to be executed. Its weights stay on this machine meanwhile, because
    the trainer cannot make it again while it trains.
    """
    if places.hindrance(phase) is not None:
        made = write()
        return take(), made
    with ExitStack() as stack:
        if writer is not None:
            stack.enter_context(on_disk(writer, phase.runtime))
        [ahead] = stack.enter_context(beside([write]))
        policy = take()
    return policy, ahead.result()


def _say_what_is_ahead(recipe: Recipe, stages: Stages, models: Models) -> None:
    """What is cached, what will run, how long and how large it will be."""
    for line in outlook(recipe, stages.root, models):
        progress.say(line)


def _say_what_overlaps(recipe: Recipe) -> None:
    """One line for each stage of the training whose captions are made ahead."""
    for number, phase in enumerate(recipe.phases):
        if phase.rollout.lag:
            reason = places.hindrance(phase)
            how = "at the same time" if reason is None else f"one after the other, because {reason}"
            where = f" of stage {number}" if recipe.stages else ""
            get_run_logger().info("updates%s and the captions of the next iteration: %s", where, how)
