"""What people look at after a training: report.html, curve.png, summary.json, Prefect artifacts, MLflow metrics.

The data are gathered by `tasks.recording.page`; the page is `racro.reports.training`, MLflow `tasks.recording.track`.
While a training lasts, `tasks.recording.live` renews them.
"""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mlflow
from PIL import Image
from prefect import get_run_logger

from racro.config import loading
from racro.curves import IterationPoint
from racro.evaluation.heldout import score_of, tracked
from racro.prompts import plain_question
from racro.reports import training as report
from racro.reports.curve import curve_png
from racro.rollouts import references
from racro.schema import EntryTable, Policy, Problem, Result, ScoredRollout
from racro.storage import artifacts, layout
from racro.storage.files import require_writable
from racro.summary import Score, Summary
from tasks.recording import mirrors, notes, page, track
from tasks.recording.iteration import Iteration, Traits
from tasks.recording.made import Evaluated, Made, entry_of
from tasks.recording.registry import Judge
from tasks.running import telemetry
from tasks.running.engines import engine_log
from tasks.running.stages import Stages

SAMPLES = 32
"""Captions in the tables of Prefect and MLflow."""
PICTURED = 12
"""Held-out problems in MLflow's tables, with their images."""

Watcher = Callable[[str, int, Score], None]
"""(MLflow run, iteration, score)"""

watchers: list[Watcher] = []
"""Called after each evaluation of a training, which ends if one of them raises. A sweep stops hopeless children so."""


def check_root(root: str) -> None:
    """Raises Unwritable for a root that cannot be written to."""
    require_writable(f"{root}/{layout.ARTIFACTS}", f"--root {root}")


def keep_logs(root: str, name: str) -> None:
    """Move the logs of engine processes and of the trainer's into the run's folder."""
    for log in sorted(engine_log("any").parent.glob("*.log")):
        try:
            artifacts.write_file(layout.engine_log(root, name, log.stem), log.read_bytes())
            log.unlink()
        except Exception as error:  # a missing log must not fail a run, nor hide why it failed
            get_run_logger().warning("%s stays where it is: %s", log, error)


def log_iteration(mlflow_run: str, iteration: Iteration, problems: Traits) -> IterationPoint:
    """Metrics of an iteration to MLflow, and a table of sample captions with their verdicts and rewards.

    Returns its point of the curves.
    """
    found = iteration.breakdown(problems)
    records, k = iteration.records(), iteration.round.number
    metrics = {
        f"{stage}/{name}": value
        for stage, record in records.items()
        for name, value in (record.metrics | {"seconds": record.seconds}).items()
    }
    metrics |= {f"compose/{name}": value for name, value in found.items()}
    if iteration.round.stage:
        metrics["stage"] = iteration.round.stage
    track.log_iteration(mlflow_run, k, records["update"].finished, metrics)
    mirrors.log(k, records["update"].finished, metrics)
    samples = itertools.islice(references.own(artifacts.read_table(iteration.scored, ScoredRollout)), SAMPLES)
    rows = [(row, row.model_dump(mode="json")) for row in samples]
    columns = ("uid", "sample", "caption", "response", "verdict", "reward")
    track.log_table(
        mlflow_run,
        f"captions/iteration-{k:04d}.json",
        [
            {name: plain[name] for name in columns}
            | _asked(problems, row.uid)
            | {f"reward {title}": value for title, value in zip(iteration.rewards, row.values, strict=True)}
            for row, plain in rows
        ],
    )
    return iteration.point(found)


def _asked(problems: Traits, uid: str) -> dict[str, str]:
    """What a problem asks, and its gold answer."""
    return {"question": plain_question(problems.known[uid].question), "gold answer": problems.known[uid].answer}


def log_evaluation(mlflow_run: str, k: int, policy: Policy, judge: Judge, reasoner: str, table: EntryTable) -> Score:
    """A policy on all held-out problems to MLflow: a version that may become champion. Returns its score.

    `reasoner`: its name in the recipe.
    """
    entry = entry_of(table)
    score = score_of(entry)
    metrics = {f"heldout/{name}": value for name, value in tracked(entry).items()}
    finished = Stages.record(table).finished
    track.log_evaluation(mlflow_run, k, finished, policy, judge, reasoner, table, score, metrics)
    mirrors.log(k, finished, metrics)
    for watcher in watchers:
        watcher(mlflow_run, k, score)
    return score


def log_heldout(made: Made, evaluated: Evaluated) -> None:
    """A table of held-out problems to MLflow: image, question, gold answer, caption, answer and verdict."""
    rows = telemetry.attempt("a table in MLflow", lambda: list(_pictured(made, evaluated))) or []
    track.log_table(made.mlflow_run, f"heldout/iteration-{evaluated.iteration:04d}.json", rows)


def _pictured(made: Made, evaluated: Evaluated) -> Iterator[dict[str, Any]]:
    results = list(itertools.islice(artifacts.read_table(evaluated.results, Result), PICTURED))
    wanted = {result.uid for result in results}
    heldout = made.judge.heldout
    known = {problem.uid: problem for problem in artifacts.read_table(heldout, Problem) if problem.uid in wanted}
    for result in results:
        [first, *_] = [*page.images_of(known[result.uid], heldout.uri), None]
        yield {
            "image": mlflow.Image(Image.open(io.BytesIO(first)).convert("RGB")) if first else "",
            "question": plain_question(result.question),
            "gold answer": result.answer,
            "caption": result.caption or "",
            "response": result.response,
            "verdict": result.verdict.value,
        }


@track.logged
def publish(made: Made, summary: Summary) -> dict[str, str]:
    """Write the run's folder and the Prefect artifacts. summary.json comes last: it marks the run as complete.

    Returns texts that the MLflow run keeps, by their names.
    """
    data = page.gather(made)
    text, picture = report.render(data), curve_png(data)
    settings, root = loading.dump(made.recipe), made.root
    artifacts.write_file(layout.recipe(root, summary.run), settings.encode())
    artifacts.write_file(layout.report(root, summary.run), text.encode())
    artifacts.write_file(layout.curve(root, summary.run), picture)
    artifacts.write_file(layout.summary(root, summary.run), artifacts.to_json(summary).encode())
    track.tag(summary.mlflow_run_id, notes.NOTE, notes.training(made, summary))
    track.log_files(summary.mlflow_run_id, {}, {"curve.png": picture})
    telemetry.image(made.curve, "curve", picture, f"{summary.run}: all {summary.iterations} iterations")
    _prefect_artifacts(summary, layout.report(root, summary.run), picture, data.samples)
    return {"recipe.yaml": settings, "report.html": text, "summary.json": artifacts.to_json(summary)}


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
