"""What people look at after an evaluation: its table in MLflow and Prefect, the results as parquet, the page.

Thin: the page is `racro.reports.evaluation`, the table `racro.evaluation.results`.
"""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Iterator, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from racro.config import Recipe, loading
from racro.data.images import BadImage, image_bytes, resolve
from racro.evaluation.parts import questions_of
from racro.reports import evaluation as page
from racro.schema import Entry, EntryTable, Question, QuestionPart, Result, ResultTable, Verdict
from racro.storage import artifacts, layout
from racro.storage.files import remove_folder
from racro.summary import EvaluationSummary
from tasks.recording import track
from tasks.recording.made import entry_of
from tasks.running import telemetry
from tasks.running.stages import Stages

Key = page.Key


@task(cache_policy=NO_CACHE, persist_result=False)
def log_entries(mlflow_run: str, tables: Sequence[EntryTable]) -> list[Entry]:
    """Every metric of every entry to MLflow, and the table of headlines. Returns the entries."""
    entries = [entry_of(table) for table in tables]
    for table, entry in zip(tables, entries, strict=True):
        place = "/".join((entry.benchmark, entry.mode, *([entry.reasoner] if entry.reasoner else [])))
        values = {f"verdict_{verdict}": float(getattr(entry, verdict)) for verdict in Verdict}
        for metric in entry.metrics:
            values |= {metric.name: metric.value, f"{metric.name} stderr": metric.stderr}
        metrics = {_metric_name(f"{place}/{name}"): value for name, value in values.items()}
        track.log_iteration(mlflow_run, 0, Stages.record(table).finished, metrics)
    track.log_table(mlflow_run, "entries.json", [_cells(entry) for entry in entries])
    return entries


@track.logged
def publish(
    recipe: Recipe,
    summary: EvaluationSummary,
    root: str,
    captioner: str | None,
    asked: Sequence[Sequence[QuestionPart]],
    graded: Sequence[ResultTable],
) -> None:
    """Write the run's folder and the Prefect artifact; end the MLflow run. summary.json comes last.

    `asked`: the parts of each benchmark.
    """
    settings, text = loading.dump(recipe), artifacts.to_json(summary)
    _write_results(summary.results, graded)
    html = page.render(
        page.EvaluationData(
            run=summary.run,
            captioner=captioner or "none",
            finished_at=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
            entries=summary.entries,
            cases=tuple(_cases(asked, graded)),
            questions=sum(part.rows for parts in asked for part in parts),
            dropped=summary.dropped,
            results=summary.results,
        )
    )
    artifacts.write_file(layout.recipe(root, summary.run), settings.encode())
    artifacts.write_file(layout.report(root, summary.run), html.encode())
    artifacts.write_file(layout.summary(root, summary.run), text.encode())
    track.close_run(summary.mlflow_run_id, {"recipe.yaml": settings, "report.html": html, "summary.json": text})
    columns = list(_cells(summary.entries[0]))
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += [f"| {' | '.join(map(str, _cells(entry).values()))} |" for entry in summary.entries]
    text = "\n".join([f"# {summary.run}", "", *lines, "", f"Report: `{layout.report(root, summary.run)}`."])
    telemetry.markdown("evaluation-summary", text, f"Result of {summary.run}")


def _cells(entry: Entry) -> dict[str, str | int]:
    """An entry as a row of a table for people."""
    headline = entry.headline
    return {
        "benchmark": entry.benchmark,
        "mode": entry.mode,
        "captioner": entry.captioner or "-",
        "reasoner": entry.reasoner or "-",
        "metric": headline.name if headline else "-",
        "%": headline.percent if headline else "-",
        "95 % interval": headline.range if headline else "-",
        "n": headline.n if headline else 0,
        **{verdict.value: int(getattr(entry, verdict)) for verdict in Verdict},
    }


def _metric_name(name: str) -> str:
    """A name that MLflow accepts: letters, digits and a few signs, no empty part of a path."""
    parts = (re.sub(r"[^\w\-. :]", "", part).strip(" .") for part in name.split("/"))
    return "/".join(part for part in parts if part)


def _write_results(folder: str, graded: Sequence[ResultTable]) -> None:
    """All results as parquet files, in place of those of an earlier run of this name."""
    remove_folder(folder)
    artifacts.write_table(folder, (row for table in graded for row in artifacts.read_table(table, Result)), Result)


def _cases(asked: Sequence[Sequence[QuestionPart]], graded: Sequence[ResultTable]) -> Iterator[page.Case]:
    """The questions that the page shows. Two passes: all answers of a benchmark are too long to hold in memory."""
    rows = (row for table in graded for row in artifacts.read_table(table, Result))
    chosen: dict[Key, list[Result]] = {
        key: [] for key in page.choose(((row.benchmark, row.uid), row.verdict) for row in rows if row.sample == 0)
    }
    for table in graded:
        for row in artifacts.read_table(table, Result):
            if (key := (row.benchmark, row.uid)) in chosen:
                chosen[key].append(row)
    for parts in asked:
        for part in parts:
            for question in questions_of(part):
                if rows_Q := chosen.get((question.benchmark, question.uid)):
                    yield page.case(rows_Q, list(_thumbnails(question, part.uri)))


def _thumbnails(question: Question, base: str) -> Iterator[bytes]:
    for ref in question.images:
        path = resolve(ref.path, base)
        with contextlib.suppress(BadImage):  # then its answers failed, and say why
            yield page.thumbnail(image_bytes(path), path)
