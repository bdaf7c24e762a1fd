"""Stage prepare: rows of a data source -> a table of problems; stage fingerprint: what benchmarks look like, for that.

And the models as handles. Thin: `racro.data.problems` reads and checks, `racro.data.contamination` compares,
`racro.models.folders` finds and digests.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import Literal

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from racro.config import Captioner, EmbeddedProblems, Problems, Reasoner, Runtime
from racro.data import contamination, problems, sources, statistics
from racro.errors import BadInput
from racro.models.adapters import Adapter
from racro.models.folders import model_digest, model_folder
from racro.schema import (
    DroppedRow,
    Fingerprint,
    FingerprintTable,
    FrozenModel,
    Overlap,
    Policy,
    Problem,
    ProblemTable,
    Question,
    QuestionTable,
)
from racro.storage import artifacts
from tasks.running import telemetry
from tasks.running.policies import Output, stage

LISTED = 200
"""Rows in Prefect's tables."""


def source_stamp(config: Problems, heldout: bool) -> str:
    """What the source looks like now (sizes and times of its files), so that new data makes a new table."""
    if isinstance(config, EmbeddedProblems):
        return "embedded"
    return sources.stamp(config.heldout_source if heldout and config.heldout_source else config.source)


@stage("fingerprint", version=1)
def fingerprint(output: Output, name: str, questions: QuestionTable, runtime: Runtime, root: str) -> FingerprintTable:
    """By what the questions of a benchmark are known again."""
    found = contamination.fingerprints(name, artifacts.read_table(questions, Question), questions.uri)
    output.shards = artifacts.write_table(output.folder, found, Fingerprint)
    return FingerprintTable(uri=output.folder, rows=questions.rows, digest=artifacts.table_digest(output.shards))


@stage("prepare", version=2)
def prepare(
    output: Output,
    problems_config: Problems,
    stamp: str,
    seed: int,
    heldout: int | None,
    benchmarks: tuple[FingerprintTable, ...],
    runtime: Runtime,
    root: str,
) -> ProblemTable:
    """The training problems, or `heldout` many held-out ones. What falls away is counted and listed."""
    fingerprints = chain.from_iterable(artifacts.read_table(table, Fingerprint) for table in benchmarks)
    prepared = problems.load(problems_config, output.folder, seed, heldout, fingerprints)
    output.shards = artifacts.write_table(output.folder, prepared.problems, Problem)
    artifacts.write_table(f"{output.folder}/dropped", prepared.dropped, DroppedRow)
    artifacts.write_table(f"{output.folder}/overlaps", prepared.overlaps, Overlap)
    artifacts.write_file(f"{output.folder}/{statistics.FILE}", artifacts.to_json(prepared.statistics).encode())
    bad = sum(prepared.statistics.unusable.values())
    output.metrics = {"rows": len(prepared.problems), "dropped": len(prepared.dropped), "unusable": bad}
    get_run_logger().info(
        "%d problems, %d rows dropped, %d of them unusable", len(prepared.problems), len(prepared.dropped), bad
    )
    return ProblemTable(
        uri=output.folder, rows=len(prepared.problems), digest=prepared.digest(), dropped=len(prepared.dropped)
    )


@task(cache_policy=NO_CACHE, persist_result=False)
def show(problems: ProblemTable, part: Literal["training", "heldout"]) -> None:
    """The counts of a preparation, and the first of the rows behind them, as Prefect artifacts."""
    found = statistics.read(problems)
    page = f"{found.markdown(f'{part} problems')}\n\nTables: `{problems.uri}`"
    telemetry.markdown(f"problems-{part}", page, f"{found.problems} of {found.rows} rows")
    for name, row_type, n in (
        ("dropped", DroppedRow, problems.dropped),
        ("overlaps", Overlap, sum(found.overlaps.values())),
    ):
        if n:
            rows = islice(artifacts.read_shard(f"{problems.uri}/{name}/part-00000.parquet", row_type), LISTED)
            table = [row.model_dump(mode="json") for row in rows]
            telemetry.table(f"{name}-{part}", table, f"{n} rows; the table is beside the problems")


class CannotTrain(BadInput):
    """A captioner whose weights nobody here can change."""


@task(cache_policy=NO_CACHE, persist_result=False)
def adopt_captioner(config: Captioner, runtime: Runtime) -> Policy:
    """The initial policy: the captioner as it was given. Raises ModelNotFound and CannotTrain.

    A scripted engine needs no model, but the next policy is made from this one's files.
    """
    if config.engine.type == "server" and runtime.captioner.urls:
        raise CannotTrain(
            "runtime.captioner.urls: training changes the captioner's weights, which running endpoints keep; leave it "
            "empty and a server is started"
        )
    folder = model_folder(config.model, "captioner", config.revision)
    if config.lora is not None and Adapter.read(folder):
        raise CannotTrain(
            f"captioner.lora: captioner.model ({config.model}) is an adapter already, and is trained further as it is; "
            "leave lora out"
        )
    return Policy(uri=str(folder.resolve()), rows=0, digest=model_digest(folder))


@task(cache_policy=NO_CACHE, persist_result=False)
def adopt_reasoner(config: Reasoner, runtime: Runtime) -> FrozenModel:
    """The frozen reasoner. One behind an endpoint is known by its name alone. Raises ModelNotFound."""
    if config.engine.type == "scripted":
        return FrozenModel(uri="scripted:", rows=0, digest="scripted")
    if config.engine.type == "server" and runtime.reasoner.urls:
        return FrozenModel(uri="endpoint:", rows=0, digest=f"endpoint:{config.model}")
    folder = model_folder(config.model, "reasoner", config.revision)
    return FrozenModel(uri=str(folder.resolve()), rows=0, digest=model_digest(folder))
