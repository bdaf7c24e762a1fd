"""Stage prepare: rows of a data source -> a table of problems; and the models as handles.

Thin: `racro.problems` reads and checks, `racro.models` finds and digests.
"""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from racro import artifacts, problems, sources
from racro.config import Captioner, EmbeddedProblems, Problems, Reasoner, Runtime
from racro.errors import BadInput
from racro.models import model_digest, model_folder
from racro.schema import DroppedRow, FrozenModel, Policy, Problem, ProblemTable
from tasks.policies import Output, stage


def source_stamp(config: Problems, heldout: bool) -> str:
    """What the source looks like now (sizes and times of its files), so that new data makes a new table."""
    if isinstance(config, EmbeddedProblems):
        return "embedded"
    return sources.stamp(config.heldout_source if heldout and config.heldout_source else config.source)


@stage("prepare", version=1)
def prepare(
    output: Output, problems_config: Problems, stamp: str, seed: int, heldout: int | None, runtime: Runtime, root: str
) -> ProblemTable:
    """The training problems, or `heldout` many held-out ones. Bad rows are dropped, counted and listed."""
    prepared = problems.load(problems_config, output.folder, seed, heldout)
    output.shards = artifacts.write_table(output.folder, prepared.problems, Problem)
    output.metrics = {"rows": len(prepared.problems), "dropped": len(prepared.dropped)}
    logger = get_run_logger()
    logger.info("%d problems, %d rows dropped", len(prepared.problems), len(prepared.dropped))
    if prepared.dropped:
        artifacts.write_table(f"{output.folder}/dropped", prepared.dropped, DroppedRow)
        rows = [row.model_dump() for row in prepared.dropped[:200]]
        create_table_artifact(rows, key="dropped-rows", description=f"{len(prepared.dropped)} rows dropped")
    return ProblemTable(
        uri=output.folder, rows=len(prepared.problems), digest=prepared.digest(), dropped=len(prepared.dropped)
    )


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
