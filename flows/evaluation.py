"""Flow `evaluate`: a policy on benchmarks, or on the held-out problems of a recipe, apart from any training.

Composition only: captions and the captioner's own answers once, then each reasoner on all of them, then grades and the
table captioner x reasoner x benchmark x mode. Every stage runs on a part of a benchmark and is cached.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field, PositiveInt

from flows.training import default_name, prepare_problems, run_name
from racro.config import Captioner, Reasoner, Recipe
from racro.evaluation.modes import ATTEMPTED, CAPTIONED, REASONED
from racro.evaluation.results import HELDOUT
from racro.identity import digest, recipe_digest
from racro.models import devices
from racro.schema import (
    CHAMPION,
    EntryTable,
    FrozenModel,
    Mode,
    Policy,
    ProblemTable,
    QuestionPart,
    QuestionTable,
    ResultTable,
    WritingTable,
)
from racro.storage import layout, runs
from racro.summary import EvaluationSummary, PolicyRef
from tasks.choose import choose
from tasks.generate import answer, attempt, describe
from tasks.grade import aggregate, grade
from tasks.prepare import adopt_reasoner
from tasks.questions import benchmark_stamp, load, load_own, own_columns, parts
from tasks.recording import publish_evaluation, report, track
from tasks.recording.closing import closing
from tasks.recording.track import Judge
from tasks.running.engines import release
from tasks.running.stages import Stages


class Looked(NamedTuple):
    """A benchmark after the captioner has seen it."""

    name: str
    parts: tuple[QuestionPart, ...]
    captions: tuple[WritingTable, ...]
    """Of each part; none where no mode needs them."""
    attempts: tuple[WritingTable, ...]
    """The captioner's own answers, likewise."""


class Arm(NamedTuple):
    """One benchmark answered in one mode by one reasoner, or by the captioner alone."""

    benchmark: str
    mode: Mode
    reasoner: Reasoner | None
    results: ResultTable
    entry: EntryTable


@flow(name="evaluate", flow_run_name=run_name, persist_result=False)
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
) -> EvaluationSummary:
    """Evaluate a policy on benchmarks, or on a recipe's held-out problems.

    Args:
        recipe: Models, limits and sampling; held-out problems; columns of the benchmark `own`.
        policy: The name of a run; `champion`, the best in MLflow for this recipe's reasoner and held-out problems;
            `initial`, the recipe's captioner; a policy's folder or URI; or its digest.
        benchmarks: Name and source (folder, file or hub id; null: the authors'). Empty: the held-out problems.
        modes: `caption`, `direct`, `joint`, `text`. Empty: `joint` on benchmarks, as in the paper; `caption` on
            held-out problems, as in training.
        limit: Questions of each benchmark, at most; families stay whole. Empty: all.
        reasoners: Each answers from the same captions. Empty: the recipe's.
        samples: Answers of the reasoner to each question; several give pass@k and the majority's accuracy.
        run: Name of the run, a folder under the root; made of what is asked when empty.
        root: Folder or URI (s3://...) for runs and artifacts.
    """
    started = time.monotonic()
    layout.run(root, run or default_name(recipe))  # a name that cannot be a folder is refused before anything starts
    devices.require(recipe)
    stages = Stages(layout.absolute(root), recipe.runtime)
    report.check_root(stages.root)
    if run is not None:  # a name made of what is asked cannot be another's
        what = digest([policy, benchmarks or {}, modes, limit, reasoners, samples])
        runs.take(stages.root, run, runs.Owner(kind="evaluation", recipe=recipe_digest(recipe), asked=what))
    modes = tuple(dict.fromkeys(modes)) or (("joint",) if benchmarks else ("caption",))
    distinct = tuple(reasoner for i, reasoner in enumerate(reasoners) if reasoner not in reasoners[:i])
    reasoners = distinct or (recipe.reasoner,)
    looking = modes != ("text",)
    asking = reasoners if not {*REASONED}.isdisjoint(modes) else ()
    models = [adopt_reasoner(reasoner, recipe.runtime) for reasoner in asking]  # all are checked before one is asked

    judge = None
    if not benchmarks or (looking and policy == CHAMPION):
        heldout = prepare_problems(recipe, stages, heldout=recipe.evaluation.problems)
        judge = Judge(adopt_reasoner(recipe.reasoner, recipe.runtime), heldout)
    tables = load_benchmarks(recipe, stages, benchmarks) if benchmarks or not judge else {HELDOUT: judge.heldout}
    asked = {benchmark: parts(table, limit) for benchmark, table in tables.items()}
    chosen = choose(policy, recipe, stages.root, judge) if looking else None
    name = run or _name(recipe, chosen, [list(asked.values()), modes, reasoners, samples])
    mlflow_run = track.open_run(recipe, recipe_digest(recipe), name, stages.root)
    with closing(mlflow_run, stages.root, name):
        captioner = f"{_label(recipe.captioner)}@{chosen.digest[:8]}" if chosen else None
        looked = [_look(recipe, stages, chosen, modes, *one) for one in asked.items()]
        release("captioner")  # its memory is the reasoners' now
        arms = list(_arms(recipe, stages, looked, captioner, modes, reasoners, models, samples))
        arms.sort(key=lambda arm: (list(asked).index(arm.benchmark), modes.index(arm.mode)))
        entries = publish_evaluation.log_entries(mlflow_run, [arm.entry for arm in arms])
        score = None
        for arm in arms:
            as_trained = (arm.benchmark, arm.mode, arm.reasoner) == (HELDOUT, "caption", recipe.reasoner)
            if as_trained and chosen and judge and arm.results.rows == judge.heldout.rows:
                score = publish_evaluation.log_score(mlflow_run, chosen, judge, arm.entry)
        summary = EvaluationSummary(
            run=name,
            recipe_digest=recipe_digest(recipe),
            seed=recipe.seed,
            policy=PolicyRef(uri=chosen.uri, digest=chosen.digest) if chosen else None,
            score=score,
            entries=tuple(entries),
            results=layout.results(stages.root, name),
            stages=stages.totals,
            seconds=round(time.monotonic() - started, 3),
            prefect_flow_run_id=str(flow_run.id),
            mlflow_run_id=mlflow_run,
        )
        publish_evaluation.publish(
            recipe, summary, stages.root, captioner, list(asked.values()), [arm.results for arm in arms]
        )
    return summary


def load_benchmarks(
    recipe: Recipe, stages: Stages, benchmarks: dict[str, str | None] | None
) -> dict[str, QuestionTable | ProblemTable]:
    """The questions of each benchmark. All are found before the first is read."""
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


def _look(
    recipe: Recipe,
    stages: Stages,
    policy: Policy | None,
    modes: Sequence[Mode],
    name: str,
    asked: tuple[QuestionPart, ...],
) -> Looked:
    """What the captioner writes about a benchmark: all that the modes need."""
    tables = {
        task: tuple(
            stages.run(
                task,
                f"{task.name} {name} {i}/{len(asked)}",
                WritingTable,
                part=part,
                policy=policy,
                captioner=recipe.captioner,
                max_tokens=longest,
            )
            for i, part in enumerate(asked, 1)
            if not set(needing).isdisjoint(modes)
        )
        for task, needing, longest in (
            (describe, CAPTIONED, recipe.rollout.max_tokens),
            (attempt, ATTEMPTED, recipe.reasoner.max_tokens),  # an answer, with its steps
        )
    }
    return Looked(name, asked, tables[describe], tables[attempt])


def _arms(
    recipe: Recipe,
    stages: Stages,
    looked: Sequence[Looked],
    captioner: str | None,
    modes: Sequence[Mode],
    reasoners: Sequence[Reasoner],
    models: Sequence[FrozenModel],
    samples: int,
) -> Iterator[Arm]:
    """All answers, graded and scored; a reasoner does all of its own before the next is loaded.

    `models`: those of the reasoners, in their order; empty if no mode asks one.
    """
    if "direct" in modes:
        for one in looked:
            yield _arm(stages, one, "direct", captioner, None, None, one.attempts)
    reasoned = [mode for mode in modes if mode in REASONED]
    for reasoner, label, model in zip(reasoners, _labels(reasoners), models, strict=False):
        for one in looked:
            for mode in reasoned:
                answers = _answer(recipe, stages, one, mode, reasoner, model, samples)
                yield _arm(stages, one, mode, captioner if mode != "text" else None, reasoner, label, answers)


def _answer(
    recipe: Recipe, stages: Stages, one: Looked, mode: Mode, reasoner: Reasoner, model: FrozenModel, samples: int
) -> tuple[WritingTable, ...]:
    """A reasoner's answers to all parts of a benchmark."""
    return tuple(
        stages.run(
            answer,
            f"answer {one.name}, {mode} {i + 1}/{len(one.parts)}",
            WritingTable,
            mode=mode,
            part=part,
            captions=one.captions[i] if mode in CAPTIONED else None,
            attempts=one.attempts[i] if mode in ATTEMPTED else None,
            reasoner_model=model,
            reasoner=reasoner,
            temperature=recipe.evaluation.temperature,
            top_p=recipe.evaluation.top_p,
            samples=samples,
            seed=recipe.seed,
        )
        for i, part in enumerate(one.parts)
    )


def _arm(
    stages: Stages,
    one: Looked,
    mode: Mode,
    captioner: str | None,
    reasoner: Reasoner | None,
    label: str | None,
    answers: tuple[WritingTable, ...],
) -> Arm:
    """Answers -> grades -> scores."""
    graded = stages.run(
        grade,
        f"grade {one.name}, {mode}",
        ResultTable,
        parts=one.parts,
        mode=mode,
        captioner=captioner,
        reasoner=label,
        captions=one.captions if mode in CAPTIONED else (),
        attempts=one.attempts if mode in ATTEMPTED else (),
        answers=answers,
    )
    entry = stages.run(
        aggregate, f"aggregate {one.name}, {mode}", EntryTable, name=one.name, parts=one.parts, graded=graded
    )
    return Arm(one.name, mode, reasoner, graded, entry)


# --- names ------------------------------------------------------------------------------------------------------------


def _name(recipe: Recipe, chosen: Policy | None, plan: object) -> str:
    """Name of a run that was given none: what is asked of whom."""
    policy = f"-policy-{chosen.digest[:8]}" if chosen else ""
    return f"{default_name(recipe)}{policy}-{digest(plan)[:8]}"


def _label(model: Captioner | Reasoner) -> str:
    """A model's name in tables: of a folder its last part."""
    return Path(model.model).name if Path(model.model).is_absolute() else model.model


def _labels(reasoners: Sequence[Reasoner]) -> list[str]:
    """Distinct names; those that would be equal are told apart by their settings' digest."""
    names = [_label(reasoner) for reasoner in reasoners]
    return [
        name if names.count(name) == 1 else f"{name}#{digest(reasoner)[:6]}"
        for name, reasoner in zip(names, reasoners, strict=True)
    ]
