"""The data of a training's page and curve, gathered from records and tables; the page is `racro.reports.training`."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterator, Sequence

from racro.config import Recipe
from racro.config.settings import changes, settings
from racro.data.images import BadImage, image_bytes, resolve
from racro.embedded import oracle
from racro.evaluation.outcomes import count_outcomes, outcome
from racro.identity import recipe_digest
from racro.pace import Row, duration
from racro.processes import machine
from racro.processes.gpus import memories, visible
from racro.prompts import plain_question
from racro.reports import training as report
from racro.schema import Problem, ProblemTable, Result
from racro.storage import artifacts
from tasks.recording import addresses
from tasks.recording.made import Evaluated, Made
from tasks.running.stages import Stages

GALLERY = {"fixed": 12, "broken": 6, "wrong": 6, "right": 4}
"""Held-out problems that the report shows, by what training did to them."""


def gather(made: Made, row: Row | None = None) -> report.ReportData:
    """All that is on the page. `row`: the state of a training that goes on; None: it is over."""
    recipe, heldout = made.recipe, made.judge.heldout
    closest, changed = changes(recipe)
    answers = [list(artifacts.read_table(one.results, Result)) for one in _ends(made.evaluations)]
    verdicts = [{result.uid: result.verdict for result in rows} for rows in answers]
    return report.ReportData(
        run=made.name,
        recipe_digest=recipe_digest(recipe),
        seed=recipe.seed,
        captioner=recipe.captioner.model,
        reasoner=recipe.reasoner.model,
        running=_state(row) if row else "",
        finished_at=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        evaluations=tuple(one.point() for one in made.evaluations),
        iterations=tuple(made.points),
        alarms=tuple(alarm.line for alarm in made.alarms),
        stages=made.stages.totals,
        outcomes=count_outcomes(verdicts[0], verdicts[-1]) if len(verdicts) > 1 else {},
        samples=tuple(_samples(heldout, answers[0], answers[1:])),
        shortages=tuple(_shortages(made)),
        settings=tuple(report.Setting(**setting._asdict()) for setting in settings(recipe)),
        closest=closest,
        changes=tuple(report.Setting(**setting._asdict()) for setting in changed),
        facts={"Cost": _cost(made), "Machine": machine.machine(), "Versions": machine.versions()},
        links={label: address for label, address in _links(made).items() if not address.startswith("file:")},
    )


def _links(made: Made) -> dict[str, str]:
    return addresses.of_run(made.mlflow_run, made.root, made.name)


def _ends(evaluations: list[Evaluated]) -> Sequence[Evaluated]:
    """The first and the last."""
    return (evaluations[0], evaluations[-1]) if len(evaluations) > 1 else evaluations


def _state(row: Row) -> str:
    return f"iteration {row.number} of {row.total}{f', {row.to_go}' if row.to_go else ''}"


def _cost(made: Made) -> dict[str, str]:
    """Of this command, but for what is counted when it was made."""
    wall = time.time() - made.started
    found = {
        "wall time of this command": duration(wall),
        "stages executed, from the cache": (
            f"{sum(total.executed for total in made.stages.totals.values())}, "
            f"{sum(total.cached for total in made.stages.totals.values())}"
        ),
        "iterations, when they ran": duration(sum(sum(point.seconds.values()) for point in made.points)),
        "CPU time, with all processes": duration(machine.cpu_seconds()),
    }
    if gpus := _gpus(made.recipe):
        found["GPU time reserved"] = f"{gpus * wall / 3600:.3g} h on {gpus} {'GPU' if gpus == 1 else 'GPUs'}"
    tokens = sum(Stages.record(table).metrics.get("tokens", 0.0) for one in made.iterations for table in one.sampled)
    found["tokens sampled from the captioner"] = f"{tokens:,.0f}"
    return found


def _gpus(recipe: Recipe) -> int:
    """Number of GPUs that a run of this recipe holds here."""
    there = visible(list(memories()))
    if not there or recipe.runtime.device == "cpu":
        return 0
    places = [recipe.runtime.place(role) for role in recipe.roles]
    named = {number for place in places for number in place.gpus} | {*recipe.runtime.trainer.gpus}
    return len(named) or min(len(there), max(place.needed for place in places))


def _shortages(made: Made) -> Iterator[str]:
    wanted, heldout = made.recipe.evaluation.problems, made.judge.heldout
    if heldout.rows < wanted:
        yield f"The recipe asks for {wanted:,} held-out problems; there are {heldout.rows:,}."
    rolled = ((one.round.phase.rollout, one.rollouts.rows) for one in made.iterations)
    found = [(rollout.problems, rows // rollout.group_size) for rollout, rows in rolled]
    asked, taken = max(found, key=lambda both: both[0] - both[1], default=(0, 0))
    if taken < asked:
        yield f"The recipe asks for {asked:,} problems in an iteration; there are {taken:,}."


def _samples(heldout: ProblemTable, before: list[Result], later: Sequence[list[Result]]) -> Iterator[report.Sample]:
    """The gallery: the first few of each outcome, so that what went wrong is shown beside what went right."""
    room = dict(GALLERY)
    last = {result.uid: result for result in later[-1]} if later else {}
    problems = {problem.uid: problem for problem in artifacts.read_table(heldout, Problem)}
    for first in before:
        second, problem = last.get(first.uid), problems[first.uid]
        kind = outcome(first.verdict, (second or first).verdict)
        if room[kind] == 0:
            continue
        room[kind] -= 1
        yield report.Sample(
            images=tuple(images_of(problem, heldout.uri)),
            question=plain_question(first.question),
            answer=first.answer,
            category=first.category,
            before=_answered(first, problem),
            after=_answered(second, problem) if second else None,
        )


def images_of(problem: Problem, base: str) -> Iterator[bytes]:
    """The files of its images that can be read. base: uri of its table."""
    for ref in problem.images:
        with contextlib.suppress(BadImage):  # then its answer failed, and its row says why
            yield image_bytes(resolve(ref.path, base))


def _answered(result: Result, problem: Problem) -> report.Answered:
    caption = result.caption or ""
    facts = oracle.inspect(caption, problem.scene) if problem.scene is not None else None
    return report.Answered(caption=caption, response=result.response, verdict=result.verdict, facts=facts)
