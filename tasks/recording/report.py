"""What people look at after a training: report.html, curve.png, summary.json, Prefect artifacts, MLflow metrics.

Gathers the data from records and tables; the page is `racro.reports.training`, MLflow is `tasks.recording.track`.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from prefect import get_run_logger

from racro.config import Recipe, loading
from racro.curves import EvalPoint, IterationPoint
from racro.data.images import BadImage, image_bytes, resolve
from racro.embedded import oracle
from racro.evaluation.heldout import by_category, score_of, tracked
from racro.evaluation.outcomes import count_outcomes, outcome
from racro.prompts import plain_question
from racro.reports import training as report
from racro.reports.curve import curve_png
from racro.schema import (
    Entry,
    EntryTable,
    Policy,
    Problem,
    ProblemTable,
    Result,
    ResultTable,
    RolloutTable,
    ScoredRollout,
    ScoredTable,
    Verdict,
)
from racro.storage import artifacts, layout
from racro.storage.files import require_writable
from racro.summary import Score, Summary
from tasks.recording import track
from tasks.recording.track import Judge
from tasks.running import telemetry
from tasks.running.engines import engine_log
from tasks.running.stages import Stages

GALLERY = {"fixed": 12, "broken": 6, "wrong": 6, "right": 4}
"""Held-out problems that the report shows, by what training did to them."""
SAMPLES = 32
"""Captions in the tables of Prefect and MLflow."""

Watcher = Callable[[str, int, Score], None]
"""(MLflow run, iteration, score)"""

watchers: list[Watcher] = []
"""Called after each evaluation of a training, which ends if one of them raises. A sweep stops hopeless children so."""


class Evaluated(NamedTuple):
    """A policy of a training on the held-out problems."""

    iteration: int
    policy: Policy
    score: Score
    results: ResultTable
    entry: EntryTable


def check_root(root: str) -> None:
    """Raises Unwritable for a root that cannot be written to."""
    require_writable(f"{root}/{layout.ARTIFACTS}", f"--root {root}")


def keep_logs(root: str, name: str) -> None:
    """Move the logs of engine processes and of the trainer's into the run's folder."""
    for role in ("captioner", "reasoner", "trainer"):
        log = engine_log(role)
        if log.is_file():
            try:
                artifacts.write_file(layout.engine_log(root, name, role), log.read_bytes())
                log.unlink()
            except Exception as error:  # a missing log must not fail a run, nor hide why it failed
                get_run_logger().warning("%s stays where it is: %s", log, error)


def log_iteration(mlflow_run: str, k: int, rollouts: RolloutTable, scored: ScoredTable, policy: Policy) -> None:
    """Metrics of an iteration to MLflow, and a table of sample captions with their verdicts."""
    records = {name: Stages.record(h) for name, h in (("caption", rollouts), ("reason", scored), ("update", policy))}
    metrics = {
        f"{stage}/{name}": value
        for stage, record in records.items()
        for name, value in (record.metrics | {"seconds": record.seconds}).items()
    }
    track.log_iteration(mlflow_run, k, records["update"].finished, metrics)
    rows = itertools.islice(artifacts.read_table(scored, ScoredRollout), SAMPLES)
    columns = ("uid", "sample", "caption", "response", "verdict", "reward")
    track.log_table(
        mlflow_run,
        f"captions/iteration-{k:04d}.json",
        [row.model_dump(mode="json", include=set(columns)) for row in rows],
    )


def entry_of(table: EntryTable) -> Entry:
    """The one row of an entry's table."""
    (entry,) = artifacts.read_table(table, Entry)
    return entry


def log_evaluation(mlflow_run: str, k: int, policy: Policy, judge: Judge, table: EntryTable) -> Score:
    """A policy on all held-out problems to MLflow: a version that may become champion. Returns its score."""
    entry = entry_of(table)
    score = score_of(entry)
    metrics = {f"heldout/{name}": value for name, value in tracked(entry).items()}
    track.log_evaluation(mlflow_run, k, Stages.record(table).finished, policy, *judge, table, score, metrics)
    for watcher in watchers:
        watcher(mlflow_run, k, score)
    return score


@track.logged
def publish(
    recipe: Recipe,
    summary: Summary,
    root: str,
    heldout: ProblemTable,
    evaluations: Sequence[Evaluated],
    iterations: Sequence[tuple[RolloutTable, ScoredTable, Policy]],
) -> None:
    """Write the run's folder and the Prefect artifacts. summary.json comes last: it marks the run as complete."""
    data = _report_data(recipe, summary, heldout, evaluations, iterations)
    page = report.render(data)
    picture = curve_png(data)
    settings = loading.dump(recipe)
    artifacts.write_file(layout.recipe(root, summary.run), settings.encode())
    artifacts.write_file(layout.report(root, summary.run), page.encode())
    artifacts.write_file(layout.curve(root, summary.run), picture)
    artifacts.write_file(layout.summary(root, summary.run), artifacts.to_json(summary).encode())
    track.close_run(
        summary.mlflow_run_id,
        {"recipe.yaml": settings, "report.html": page, "summary.json": artifacts.to_json(summary)},
    )
    _prefect_artifacts(summary, layout.report(root, summary.run), picture, data.samples)


def _prefect_artifacts(summary: Summary, page: str, picture: bytes, samples: Sequence[report.Sample]) -> None:
    lines = [
        f"# {summary.run}",
        "",
        "| captioner | accuracy, % | 95 % interval | n | truthful, % | states what is asked, % | leaks, % |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {name} | {score.share.percent} | {score.share.range} | {score.n} | "
            f"{_percent(score.truthful)} | {_percent(score.states_asked)} | {_percent(score.leaks)} |"
            for name, score in (("before", summary.base), (f"after {summary.optimizer_steps} steps", summary.final))
        ),
        "",
        f"![learning curve](data:image/png;base64,{base64.b64encode(picture).decode()})",
        "",
        f"Report: `{page}`. Policy: `{summary.policy.uri}`. MLflow run: `{summary.mlflow_run_id}`.",
    ]
    telemetry.markdown("training-summary", "\n".join(lines), f"Result of {summary.run}")
    rows = [
        {
            "question": sample.question,
            "answer": sample.answer,
            "caption before": sample.before.caption,
            "verdict before": sample.before.verdict.value,
            "caption after": sample.after.caption if sample.after else "",
            "verdict after": sample.after.verdict.value if sample.after else "",
        }
        for sample in samples[:SAMPLES]
    ]
    telemetry.table("heldout-samples", rows, "Held-out problems before and after")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


# --- the report's data ------------------------------------------------------------------------------------------------


def _report_data(
    recipe: Recipe,
    summary: Summary,
    heldout: ProblemTable,
    evaluations: Sequence[Evaluated],
    iterations: Sequence[tuple[RolloutTable, ScoredTable, Policy]],
) -> report.ReportData:
    before, after = (list(artifacts.read_table(evaluations[i].results, Result)) for i in (0, -1))
    return report.ReportData(
        run=summary.run,
        recipe_digest=summary.recipe_digest,
        seed=summary.seed,
        captioner=recipe.captioner.model,
        reasoner=recipe.reasoner.model,
        finished_at=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        evaluations=tuple(_eval_point(evaluated) for evaluated in evaluations),
        iterations=tuple(_iteration_point(k, *handles) for k, handles in enumerate(iterations)),
        stages=summary.stages,
        outcomes=count_outcomes(*({row.uid: row.verdict for row in rows} for rows in (before, after))),
        samples=tuple(_samples(heldout, before, after)),
        shortages=tuple(_shortages(recipe, heldout, iterations)),
        links={"Prefect flow run": summary.prefect_flow_run_id, "MLflow run": summary.mlflow_run_id},
    )


def _shortages(
    recipe: Recipe, heldout: ProblemTable, iterations: Sequence[tuple[RolloutTable, ScoredTable, Policy]]
) -> Iterator[str]:
    if heldout.rows < recipe.evaluation.problems:
        yield f"The recipe asks for {recipe.evaluation.problems:,} held-out problems; there are {heldout.rows:,}."
    taken = min((rollouts.rows // recipe.rollout.group_size for rollouts, _, _ in iterations), default=None)
    if taken is not None and taken < recipe.rollout.problems:
        yield f"The recipe asks for {recipe.rollout.problems:,} problems in an iteration; there are {taken:,}."


def _eval_point(evaluated: Evaluated) -> EvalPoint:
    return EvalPoint(
        iteration=evaluated.iteration,
        step=evaluated.policy.step,
        by_category=by_category(entry_of(evaluated.entry)),
        **dict(evaluated.score),
    )


def _iteration_point(k: int, rollouts: RolloutTable, scored: ScoredTable, policy: Policy) -> IterationPoint:
    caption, reason, update = (Stages.record(handle) for handle in (rollouts, scored, policy))
    return IterationPoint(
        iteration=k,
        reward_mean=reason.metrics["reward_mean"],
        reward_stderr=reason.metrics["reward_stderr"],
        captions=rollouts.rows,
        groups=int(reason.metrics["groups"]),
        informative_groups=int(reason.metrics["groups_informative"]),
        verdicts={v.value: int(reason.metrics[f"verdict_{v.value}"]) for v in Verdict},
        kl=update.metrics.get("kl"),
        entropy=update.metrics.get("entropy"),
        clip_ratio=update.metrics.get("clip_ratio"),
        logprob_gap=update.metrics.get("logprob_gap"),
        caption_tokens_mean=caption.metrics["tokens_mean"],
        seconds={"caption": caption.seconds, "reason": reason.seconds, "update": update.seconds},
    )


def _samples(heldout: ProblemTable, before: list[Result], after: list[Result]) -> Iterator[report.Sample]:
    """The gallery: the first few of each outcome, so that what went wrong is shown beside what went right."""
    room = dict(GALLERY)
    last = {result.uid: result for result in after}
    problems = {problem.uid: problem for problem in artifacts.read_table(heldout, Problem)}
    for first in before:
        second, problem = last[first.uid], problems[first.uid]
        kind = outcome(first.verdict, second.verdict)
        if room[kind] == 0:
            continue
        room[kind] -= 1
        yield report.Sample(
            images=tuple(_images(problem, heldout.uri)),
            question=plain_question(first.question),
            answer=first.answer,
            category=first.category,
            before=_answered(first, problem),
            after=_answered(second, problem),
        )


def _images(problem: Problem, base: str) -> Iterator[bytes]:
    for ref in problem.images:
        with contextlib.suppress(BadImage):  # then its answer failed, and its row says why
            yield image_bytes(resolve(ref.path, base))


def _answered(result: Result, problem: Problem) -> report.Answered:
    caption = result.caption or ""
    facts = oracle.inspect(caption, problem.scene) if problem.scene is not None else None
    return report.Answered(caption=caption, response=result.response, verdict=result.verdict, facts=facts)
