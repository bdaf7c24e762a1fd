"""A training while it lasts: a line, an event and a progress bar for each iteration; page, curve and captions renewed.

What people look at takes a share of the time at most (`runtime.renewal`), and never ends a run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from uuid import UUID

from prefect import get_run_logger

from racro.config import loading
from racro.pace import Pace, Part, Row
from racro.prompts import plain_question
from racro.reports import captions
from racro.reports import training as report_page
from racro.reports.curve import curve_png
from racro.rollouts import references
from racro.schedule import evaluated
from racro.schema import EntryTable, Policy, ResultTable, ScoredRollout, Verdict
from racro.storage import artifacts, layout
from tasks.recording import addresses, alarms, events, notes, page, report, track
from tasks.recording.iteration import Iteration, Traits
from tasks.recording.made import Evaluated, Made
from tasks.running import observing, telemetry

CAPTIONS = 6
"""Captions on the page of an iteration, half of them of right answers where there are so many."""
FIRST = 2.0
"""Seconds that renewing is taken to need before it was done once."""


class Live:
    """Follows a training. Told of each evaluation and each iteration, in their order."""

    def __init__(self, made: Made) -> None:
        self.made = made
        self.traits = Traits.of(made.problems)
        self._pace = Pace(made.recipe)
        self._since, self._executed = time.monotonic(), self._count()
        self._seconds, self._cached = 0.0, True
        self._renewed, self._cost = time.monotonic(), FIRST
        self._bar: UUID | None = None
        self._captions: UUID | None = None
        track.link_prompts(made.mlflow_run, made.recipe)
        telemetry.attempt("links of a run", self._link)

    def evaluated(self, number: int, policy: Policy, results: ResultTable, entry: EntryTable) -> None:
        """The policy after so many iterations was asked about the held-out problems."""
        made = self.made
        score = report.log_evaluation(made.mlflow_run, number, policy, made.judge, made.recipe.reasoner.model, entry)
        made.evaluations.append(Evaluated(number, policy, score, results, entry))
        if made.recipe.runtime.renewal or number == made.recipe.rounds:
            report.log_heldout(made, made.evaluations[-1])
        self._ended("evaluation")
        self._tell(number)

    def iterated(self, iteration: Iteration) -> None:
        """An iteration is over. Raises Drifted."""
        made = self.made
        made.iterations.append(iteration)
        made.points.append(report.log_iteration(made.mlflow_run, iteration, self.traits))
        made.alarms = alarms.watch(made.mlflow_run, made.name, made.recipe, made.points)
        self._ended("iteration")
        number = iteration.round.number + 1
        if not evaluated(made.recipe, number):  # otherwise after the evaluation, together with its accuracy
            self._tell(number)

    def _ended(self, part: Part) -> None:
        """Count the time since the last part ended."""
        now, executed = time.monotonic(), self._count()
        seconds, cached = now - self._since, executed == self._executed
        self._pace.ended(part, seconds, cached)
        self._since, self._executed = now, executed
        self._seconds, self._cached = self._seconds + seconds, self._cached and cached

    def _count(self) -> int:
        """Stages that were executed so far."""
        return sum(total.executed for total in self.made.stages.totals.values())

    def _tell(self, number: int) -> None:
        """Whoever wants to know about the iteration."""
        made = self.made
        last = made.evaluations[-1] if made.evaluations else None
        row = Row(
            number=number,
            total=made.recipe.rounds,
            point=made.points[-1] if made.points else None,
            score=last.score if last and last.iteration == number else None,
            seconds=self._seconds,
            cached=self._cached,
            left=self._pace.left,
        )
        self._seconds, self._cached = 0.0, True
        get_run_logger().info(row.line)
        for observer in observing.row_observers:
            observer(row)
        state = f"{made.name}: {row.number} of {row.total} iterations{f', {row.to_go}' if row.to_go else ''}"
        self._bar = telemetry.progress(self._bar, row.percent, state, "training")
        if row.point is not None:
            figures: dict[str, float] = {"iteration": number, "of": row.total, "reward": row.point.reward_mean}
            if row.score is not None:
                figures |= {"accuracy": row.score.accuracy, "n": row.score.n}
            events.emit(events.ITERATION, made.name, f"{made.name}: {row.line}", figures)
        if row.number < row.total and self._due():
            started = time.monotonic()
            telemetry.attempt("the page of a running training", lambda: self._renew(row))
            self._renewed = time.monotonic()
            self._cost = self._renewed - started

    def _due(self) -> bool:
        """Is there time to renew what people look at?"""
        share = self.made.recipe.runtime.renewal
        return share > 0 and time.monotonic() - self._renewed >= self._cost * (1 - share) / share

    def _renew(self, row: Row) -> None:
        made = self.made
        data = page.gather(made, row)
        text, picture = report_page.render(data), curve_png(data)
        artifacts.write_file(layout.report(made.root, made.name), text.encode())
        artifacts.write_file(layout.curve(made.root, made.name), picture)
        track.log_files(made.mlflow_run, {"report.html": text}, {"curve.png": picture})
        where = f"{made.name}: iteration {row.number} of {row.total}"
        made.curve = telemetry.image(made.curve, "curve", picture, where)
        if made.iterations:
            written = captions.markdown(list(self._written(made.iterations[-1])), where)
            self._captions = telemetry.page(self._captions, "captions", written, f"Captions of {where}")

    def _written(self, iteration: Iteration) -> Iterator[captions.Written]:
        """A few captions of an iteration, of different problems."""
        seen: set[str] = set()
        room = dict.fromkeys((True, False), CAPTIONS // 2)
        for row in references.own(artifacts.read_table(iteration.scored, ScoredRollout)):
            right = row.verdict == Verdict.CORRECT
            if row.uid in seen or not room[right]:
                continue
            seen.add(row.uid)
            room[right] -= 1
            problem = self.traits.known[row.uid]
            yield captions.Written(
                images=tuple(page.images_of(problem, self.made.problems.uri)),
                question=plain_question(problem.question),
                gold=problem.answer,
                caption=row.caption,
                response=row.response or "",
                verdict=row.verdict,
                reward=row.reward,
            )

    def _link(self) -> None:
        """Links from Prefect's page of the run, and the recipe in MLflow for the one that leads to it."""
        made = self.made
        track.log_files(made.mlflow_run, {"recipe.yaml": loading.dump(made.recipe)})
        track.tag(made.mlflow_run, notes.NOTE, notes.training(made))
        for label, address in addresses.of_run(made.mlflow_run, made.root, made.name).items():
            if not label.startswith("Prefect"):
                telemetry.link(label.lower().replace(" ", "-"), address, f"{label} of {made.name}", label)
