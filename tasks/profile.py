"""Stage profile: how often captions of each problem led to the right answer; and what `racro profile` leaves behind.

Thin: it counts what the stages caption and reward-answer made (`racro.rollouts.profile`).
"""

from __future__ import annotations

from collections.abc import Iterator

from racro import config as recipes
from racro.config import Recipe, loading
from racro.data.images import resolve
from racro.rollouts import profile as profiles
from racro.schema import PassRate, PassRateTable, Problem, ProblemTable, ProfiledProblem, RewardRow, RewardTable
from racro.storage import artifacts, layout
from racro.summary import Band, ProfileSummary
from tasks.recording import track
from tasks.running import telemetry
from tasks.running.policies import Output, stage


@stage("profile", version=1)
def profile(
    output: Output,
    problems: ProblemTable,
    values: tuple[RewardTable, ...],
    runtime: recipes.Runtime,
    root: str,
) -> PassRateTable:
    """The pass rate of each problem, in the order of the problems. `values`: of the reward `answer`."""
    uids = [problem.uid for problem in artifacts.read_table(problems, Problem)]
    rows = profiles.rates(uids, (row for table in values for row in artifacts.read_table(table, RewardRow)))
    output.shards = artifacts.write_table(output.folder, rows, PassRate)
    output.metrics = profiles.measured(rows)
    return PassRateTable(uri=output.folder, rows=len(rows), digest=artifacts.table_digest(output.shards))


def bands(table: PassRateTable) -> tuple[Band, ...]:
    """The distribution of pass rates."""
    return profiles.bands([row.rate for row in artifacts.read_table(table, PassRate) if row.rate is not None])


@track.logged
def publish(recipe: Recipe, summary: ProfileSummary, root: str, problems: ProblemTable, table: PassRateTable) -> None:
    """Write the run's folder and the Prefect artifact; end the MLflow run. summary.json comes last."""
    settings, text = loading.dump(recipe), artifacts.to_json(summary)
    artifacts.write_file(summary.table, artifacts.parquet(_rows(problems, table), ProfiledProblem))
    artifacts.write_file(layout.recipe(root, summary.run), settings.encode())
    artifacts.write_file(layout.summary(root, summary.run), text.encode())
    cells = [_cells(band) for band in summary.bands]
    track.log_table(summary.mlflow_run_id, "pass_rates.json", cells)
    track.close_run(summary.mlflow_run_id, {"recipe.yaml": settings, "summary.json": text})
    telemetry.table("pass-rates", cells, f"Pass rates of {summary.run}, {summary.captions} captions of each problem")


def _cells(band: Band) -> dict[str, str | int]:
    return {
        "pass rate": band.name,
        "problems": band.problems,
        "%": band.share.percent,
        "95 % interval": band.share.range,
        "n": band.share.n,
    }


def _rows(problems: ProblemTable, table: PassRateTable) -> Iterator[ProfiledProblem]:
    pairs = zip(artifacts.read_table(problems, Problem), artifacts.read_table(table, PassRate), strict=True)
    for problem, found in pairs:
        yield ProfiledProblem(
            **{name: getattr(problem, name) for name in ("uid", "question", "answer", "kind", "category", "choices")},
            images=tuple(resolve(ref.path, problems.uri) for ref in problem.images),
            pass_rate=found.rate,
            scored=found.scored,
        )
