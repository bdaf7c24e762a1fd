"""Flow `evaluate`: a policy on benchmarks, or on the held-out problems of a recipe, outside any training.

Composition only: captions and the captioner's own answers once, then each reasoner on all of them (`flows.arms`), then
the table captioner x reasoner x benchmark x mode.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Annotated, NamedTuple

from prefect import flow, get_run_logger
from prefect.runtime import flow_run
from pydantic import Field, PositiveInt

from flows import arms, rounds
from flows.arms import Arm, Captioned
from flows.problems import prepare_problems
from flows.rounds import Exchange
from flows.training import default_name, run_name
from racro.config import REASONERS, ModeSettings, Reasoner, Recipe
from racro.evaluation.heldout import HELDOUT
from racro.evaluation.modes import REASONED
from racro.identity import digest, recipe_digest
from racro.models import devices
from racro.schema import CHAMPION, FrozenModel, Mode, Policy, ProblemTable, QuestionTable, ShotTable
from racro.storage import layout, runs
from racro.summary import EvaluationSummary, PolicyRef
from tasks.choose import choose, require_champion
from tasks.prepare import adopt_reasoner
from tasks.questions import benchmark_stamp, load, load_own, own_columns, parts
from tasks.recording import events, publish_evaluation, report, track
from tasks.recording.closing import closing
from tasks.recording.registry import Judge
from tasks.running.engines import release
from tasks.running.stages import Stages

DEFAULT = ModeSettings()


@flow(name="evaluate", flow_run_name=run_name, persist_result=False, on_failure=[events.failed])
def evaluate(
    recipe: Recipe,
    policy: str = CHAMPION,
    benchmarks: dict[str, str | None] | None = None,
    modes: tuple[Mode, ...] = (),
    limit: PositiveInt | None = None,
    reasoners: tuple[Reasoner, ...] = (),
    samples: Annotated[int, Field(ge=1, le=1024)] = 1,
    run: str | None = None,
    root: str = "runs",
    settings: ModeSettings = DEFAULT,
) -> EvaluationSummary:
    """Evaluate a policy on benchmarks, or on a recipe's held-out problems.

    Args:
        recipe: Models, limits and sampling; held-out problems; columns of the benchmark `own`.
        policy: The name of a run; `champion`, the best in MLflow for this recipe's reasoner and held-out problems;
            `initial`, the recipe's captioner; a policy's folder or URI; or its digest.
        benchmarks: Name and source (folder, file or hub id; null: the authors'). Empty: the held-out problems.
        modes: `caption`, `direct`, `joint`, `text`, `vote`, `best`, `clues`, `shots`, `check`. Empty: `joint` on
            benchmarks, as in the paper; `caption` on held-out problems, as in training.
        limit: Questions of each benchmark, at most; families stay whole. Empty: all.
        reasoners: Each answers from the same captions. Empty: the recipe's.
        samples: Answers of the reasoner to each question; several give pass@k and the majority's accuracy.
        run: Name of the run, a folder under the root; made of what is asked when empty.
        root: Folder or URI (s3://...) for runs and artifacts.
        settings: How often the modes `vote`, `best`, `clues` and `shots` ask, and which caption is best.
    """
    started = time.monotonic()
    layout.named(root, run or default_name(recipe))  # refuses a name that cannot be a folder before anything starts
    devices.require(recipe)
    devices.require_engines(recipe, reasoners)
    stages = Stages(layout.absolute(root), recipe.runtime)
    report.check_root(stages.root)
    settings = rounds.require(modes, settings, recipe.judges)
    more = [] if settings == DEFAULT else [settings]
    what = digest([policy, benchmarks or {}, modes, limit, reasoners, samples, *more])
    modes = tuple(dict.fromkeys(modes)) or (("joint",) if benchmarks else ("caption",))
    distinct = tuple(reasoner for i, reasoner in enumerate(reasoners) if reasoner not in reasoners[:i])
    reasoners = distinct or (recipe.reasoner,)
    captioning = modes != ("text",)
    asking = reasoners if not {*REASONED}.isdisjoint(modes) else ()
    _say_unused(recipe, reasoners)
    chosen: Policy | None = None
    if captioning and policy == CHAMPION:
        require_champion(recipe)
    elif captioning:
        chosen = choose(policy, recipe, stages.root, None)
    models = [adopt_reasoner(reasoner, recipe.runtime) for reasoner in asking]  # all are checked before one is asked
    if run is not None:  # a name made of what is asked cannot be another's; a misspelt policy or model takes none
        runs.take(stages.root, run, runs.Owner(kind="evaluation", recipe=recipe_digest(recipe), asked=what))

    judge = None
    if not benchmarks or (captioning and policy == CHAMPION):
        heldout = prepare_problems(recipe, stages, heldout=recipe.evaluation.problems)
        judge = Judge(adopt_reasoner(recipe.reasoner, recipe.runtime), heldout)
    training = prepare_problems(recipe, stages, heldout=None) if "shots" in modes else None
    tables = load_benchmarks(recipe, stages, benchmarks) if benchmarks or not judge else {HELDOUT: judge.heldout}
    asked = {benchmark: parts(table, limit) for benchmark, table in tables.items()}
    if captioning and policy == CHAMPION:
        chosen = choose(policy, recipe, stages.root, judge)
    name = run or _name(recipe, chosen, [list(asked.values()), modes, reasoners, samples, *more])
    mlflow_run = track.open_run(recipe, recipe_digest(recipe), name, stages.root)
    with closing(mlflow_run, stages.root, name):
        seen = [arms.ask_captioner(recipe, stages, chosen, modes, *one) for one in asked.items()]
        seen = [rounds.sample(recipe, stages, chosen, modes, settings, one) for one in seen]
        shots = rounds.shots(recipe, stages, chosen, settings, training) if training else None
        release("captioner")  # the reasoners get its memory
        plan = Plan(modes, settings, samples, shots)
        found = list(_arms(recipe, stages, chosen, seen, plan, reasoners, models))
        found.sort(key=lambda arm: (list(asked).index(arm.benchmark), modes.index(arm.mode)))
        entries = publish_evaluation.log_entries(mlflow_run, [arm.entry for arm in found])
        score = None
        for arm in found:
            as_trained = (arm.benchmark, arm.mode, arm.reasoner) == (HELDOUT, "caption", recipe.reasoner)
            if as_trained and chosen and judge and arm.results.rows == judge.heldout.rows:
                score = report.log_evaluation(mlflow_run, 0, chosen, judge, recipe.reasoner.model, arm.entry)
        summary = EvaluationSummary(
            run=name,
            recipe_digest=recipe_digest(recipe),
            seed=recipe.seed,
            policy=PolicyRef(uri=chosen.uri, digest=chosen.files) if chosen else None,
            score=score,
            entries=tuple(entries),
            dropped={name: table.dropped for name, table in tables.items() if benchmarks and table.dropped},
            results=layout.results(stages.root, name),
            stages=stages.totals,
            seconds=round(time.monotonic() - started, 3),
            prefect_flow_run_id=str(flow_run.id),
            mlflow_run_id=mlflow_run,
        )
        publish_evaluation.publish(
            recipe, summary, stages.root, seen[0].captioner, list(asked.values()), [arm.results for arm in found]
        )
    return summary


def load_benchmarks(
    recipe: Recipe, stages: Stages, benchmarks: dict[str, str | None] | None
) -> dict[str, QuestionTable | ProblemTable]:
    """The questions of each benchmark. A missing benchmark is refused before the first is read."""
    benchmarks = benchmarks or {}
    columns = {name: own_columns(name, recipe) for name in benchmarks}
    stamps = {name: benchmark_stamp(name, source, columns[name]) for name, source in benchmarks.items()}
    return {
        name: stages.run(
            load if columns[name] is None else load_own,
            f"load {name}",
            QuestionTable,
            name=name,
            source=source,
            columns=columns[name],
            stamp=stamps[name],
        )
        for name, source in benchmarks.items()
    }


class Plan(NamedTuple):
    """What is asked of each reasoner."""

    modes: Sequence[Mode]
    settings: ModeSettings
    samples: int
    shots: ShotTable | None


def _arms(
    recipe: Recipe,
    stages: Stages,
    policy: Policy | None,
    seen: Sequence[Captioned],
    plan: Plan,
    reasoners: Sequence[Reasoner],
    models: Sequence[FrozenModel],
) -> Iterator[Arm]:
    """All answers, graded and scored. A reasoner answers everything before the next one is loaded.

    `models`: those of the reasoners, in their order; empty if no mode asks one.
    """
    if "direct" in plan.modes:
        for captioned in seen:
            yield arms.score(stages, captioned, "direct", None, None, captioned.attempts)
    reasoned = [mode for mode in plan.modes if mode in REASONED]
    for reasoner, name, model in zip(reasoners, _names(reasoners), models, strict=False):
        who = reasoner, model, plan.samples
        turns = rounds.exchange(recipe, stages, policy, reasoned, plan.settings, seen, *who)
        for captioned in seen:
            for mode in reasoned:
                turn = turns.get((captioned.benchmark, mode), Exchange())
                if mode in rounds.ROUNDS:
                    answers = rounds.answers(recipe, stages, captioned, mode, *who, turn, plan.shots)
                else:
                    answers = arms.ask_reasoner(recipe, stages, captioned, mode, *who)
                yield arms.score(stages, captioned, mode, reasoner, name, answers, more=turn.more)


# --- names ------------------------------------------------------------------------------------------------------------


def _name(recipe: Recipe, chosen: Policy | None, plan: object) -> str:
    """Name of a run that was given none, made of the policy and the questions."""
    policy = f"-policy-{chosen.digest[:8]}" if chosen else ""
    return f"{default_name(recipe)}{policy}-{digest(plan)[:8]}"


def _say_unused(recipe: Recipe, reasoners: Sequence[Reasoner]) -> None:
    """Places of reasoners that this evaluation does not ask may be meant for others, or be misspelt."""
    used = {recipe.runtime.role_of(reasoner) for reasoner in (*reasoners, recipe.reasoner)}
    if unused := [name for name in recipe.runtime.reasoners if REASONERS + name not in used]:
        get_run_logger().warning(
            "runtime.reasoners: %s: no reasoner of this evaluation has this name; names are the last parts of %s",
            ", ".join(unused),
            ", ".join(arms.model_name(reasoner) for reasoner in reasoners),
        )


def _names(reasoners: Sequence[Reasoner]) -> list[str]:
    """Distinct names; equal ones are told apart by the digest of their settings."""
    names = [arms.model_name(reasoner) for reasoner in reasoners]
    return [
        name if names.count(name) == 1 else f"{name}#{digest(reasoner)[:6]}"
        for name, reasoner in zip(names, reasoners, strict=True)
    ]
