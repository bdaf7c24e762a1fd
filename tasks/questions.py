"""Stage load: a benchmark -> its questions; and the parts of a table of questions, which are evaluated one by one.

Thin: `racro.benchmarks` reads. A recipe's held-out problems are a benchmark too; their table comes from stage prepare.
"""

from __future__ import annotations

from collections import Counter

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from racro import benchmarks
from racro.benchmarks import Benchmark
from racro.config import Columns, Recipe, Runtime
from racro.data import sources
from racro.data.problems import content_digest
from racro.errors import BadInput
from racro.evaluation import parts as dividing
from racro.schema import DroppedRow, ProblemTable, Question, QuestionPart, QuestionTable
from racro.storage import artifacts
from tasks.running import telemetry
from tasks.running.policies import Output, stage

OWN = "own"
LISTED = 200
"""Dropped rows in Prefect's table."""


class NoBenchmark(BadInput):
    """An unknown benchmark, or one that is not at the given place."""


def benchmark(name: str, columns: Columns | None) -> Benchmark:
    """The benchmark of a name; `own` reads by `columns`. Raises NoBenchmark."""
    if name == OWN:
        return benchmarks.own_data(columns or Columns())
    if name not in benchmarks.BENCHMARKS:
        known = ", ".join((*benchmarks.BENCHMARKS, OWN))
        raise NoBenchmark(f"benchmark {name}: not known; one of {known}")
    return benchmarks.BENCHMARKS[name]


def own_columns(name: str, recipe: Recipe) -> Columns | None:
    """Columns of the benchmark `own`: those of the recipe's problems. None for any other benchmark."""
    return getattr(recipe.problems, "columns", Columns()) if name == OWN else None


def benchmark_stamp(name: str, source: str | None, columns: Columns | None) -> str:
    """What the source looks like now. Raises NoBenchmark."""
    published = benchmark(name, columns).source
    found = source or published
    try:
        return sources.stamp(found) if found else ""
    except sources.BadSource as error:
        raise NoBenchmark(f"benchmark {name}: {found} is not there; name its folder, file or hub id") from error


def _load(
    output: Output, name: str, source: str | None, columns: Columns | None, stamp: str, runtime: Runtime, root: str
) -> QuestionTable:
    """All questions of a benchmark. Unusable rows are dropped, counted and listed."""
    loaded = benchmark(name, columns).read(source, output.folder)
    output.shards = artifacts.write_table(output.folder, loaded.questions, Question)
    reasons = Counter(row.reason for row in loaded.dropped)
    output.metrics = {"rows": len(loaded.questions), **{f"dropped_{reason}": n for reason, n in reasons.items()}}
    get_run_logger().info("%s: %d questions, %d rows dropped", name, len(loaded.questions), len(loaded.dropped))
    if loaded.dropped:
        artifacts.write_table(f"{output.folder}/dropped", loaded.dropped, DroppedRow)
        rows = [row.model_dump() for row in loaded.dropped[:LISTED]]
        telemetry.table(f"dropped-{name}", rows, f"{len(loaded.dropped)} rows dropped")
    return QuestionTable(
        uri=output.folder,
        rows=len(loaded.questions),
        digest=content_digest(loaded.questions),
        dropped=len(loaded.dropped),
    )


load = stage("load", version=1)(_load)
load_own = stage("load", version=2)(_load)
"""The same for the user's own data. How its rows are read changes apart from how published benchmarks are read."""


@task(cache_policy=NO_CACHE, persist_result=False)
def parts(table: QuestionTable | ProblemTable, limit: int | None = None) -> tuple[QuestionPart, ...]:
    """The first `limit` questions, or all, in parts (`racro.evaluation.parts`)."""
    return dividing.parts(table, limit)
