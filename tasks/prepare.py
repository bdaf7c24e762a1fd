"""Stage prepare: rows of a data source -> a table of problems; stage fingerprint: how benchmarks are recognised in it.

Also the models as handles. Thin: `racro.data.problems` reads and checks, `racro.data.contamination` compares,
`racro.models.folders` finds and digests.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Literal

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from racro.config import (
    JUDGES,
    Captioner,
    EmbeddedProblems,
    Judge,
    ModelSection,
    Part,
    PixelRange,
    Problems,
    Reasoner,
    Recipe,
    Reward,
    Runtime,
)
from racro.data import contamination, origins, problems, sources, statistics
from racro.data.lengths import Fit
from racro.engines.protocol import Role
from racro.engines.remote.fleet import away
from racro.errors import BadInput
from racro.grading import RULES
from racro.models import compatibility
from racro.models import parts as model_parts
from racro.models.adapters import Adapter
from racro.models.folders import READER_SUFFIXES, base_folder, max_positions, model_digest, model_folder
from racro.models.pixels import UNLIMITED
from racro.schema import (
    DroppedRow,
    Fingerprint,
    FingerprintTable,
    FrozenModel,
    Overlap,
    Policy,
    Problem,
    ProblemTable,
    PromptReader,
    Question,
    QuestionTable,
)
from racro.storage import artifacts
from tasks.running import telemetry
from tasks.running.policies import Output, stage

LISTED = 200
"""Rows in Prefect's tables."""
SHORTAGE = {
    "training": "rollout.problems = %d, but there are only %d training problems: every iteration takes them all",
    "heldout": "evaluation.problems = %d, but there are only %d held-out problems: all of them are evaluated",
}
"""What is said when a recipe asks for more problems than there are."""


def source_stamp(config: Problems, heldout: bool) -> str:
    """What the source looks like now (sizes and times of its files), so that new data makes a new table."""
    if isinstance(config, EmbeddedProblems):
        return "embedded"
    return sources.stamp(config.heldout_source if heldout and config.heldout_source else config.source)


@stage("fingerprint", version=1)
def fingerprint(output: Output, name: str, questions: QuestionTable, runtime: Runtime, root: str) -> FingerprintTable:
    """By what the questions of a benchmark are recognised elsewhere."""
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
    """The training problems of the embedded world, or `heldout` many held-out ones."""
    return _written(output, problems.load(problems_config, output.folder, seed, heldout))


@stage("prepare", version=4 + RULES)
def prepare_table(
    output: Output,
    problems_config: Problems,
    stamp: str,
    seed: int,
    heldout: int | None,
    benchmarks: tuple[FingerprintTable, ...],
    captioner: PromptReader | None,
    reasoner: PromptReader | None,
    runtime: Runtime,
    root: str,
) -> ProblemTable:
    """The training problems of somebody else's table, or `heldout` many held-out ones. Drops are counted and listed.

    What the models can read counts here, in the embedded world it does not: so these are two stages of one name.
    """
    fingerprints = chain.from_iterable(artifacts.read_table(table, Fingerprint) for table in benchmarks)
    fit = Fit(captioner, reasoner)
    return _written(output, problems.load(problems_config, output.folder, seed, heldout, fingerprints, fit))


def _written(output: Output, prepared: problems.Prepared) -> ProblemTable:
    """The table of problems, and beside it what was dropped, overlaps and counts."""
    output.shards = artifacts.write_table(output.folder, prepared.problems, Problem)
    artifacts.write_table(f"{output.folder}/dropped", prepared.dropped, DroppedRow)
    artifacts.write_table(f"{output.folder}/overlaps", prepared.overlaps, Overlap)
    artifacts.write_file(f"{output.folder}/{statistics.FILE}", artifacts.to_json(prepared.statistics).encode())
    if prepared.origins:
        origins.write(output.folder, prepared.origins)
    bad = sum(prepared.statistics.unusable.values())
    output.metrics = {"rows": len(prepared.problems), "dropped": len(prepared.dropped), "unusable": bad}
    output.metrics |= {f"dropped_{reason}": n for reason, n in prepared.statistics.unusable.items()}
    if prepared.statistics.asked is not None:
        output.metrics["asked"] = prepared.statistics.asked
    get_run_logger().info(
        "%d problems, %d rows dropped, %d of them unusable", len(prepared.problems), len(prepared.dropped), bad
    )
    return ProblemTable(
        uri=output.folder, rows=len(prepared.problems), digest=prepared.digest(), dropped=len(prepared.dropped)
    )


def prompt_readers(recipe: Recipe) -> dict[Role, PromptReader | None]:
    """How captioner and reasoner read the prompts of a training. Raises ModelNotFound."""
    models: tuple[tuple[Role, Captioner | Reasoner, int], ...] = (
        ("captioner", recipe.captioner, max(one.rollout.max_tokens for one in (recipe, *recipe.phases))),
        ("reasoner", recipe.reasoner, recipe.reasoner.max_tokens),
    )
    return {role: _reader(role, config, longest, recipe.runtime) for role, config, longest in models}


def _reader(role: Role, config: Captioner | Reasoner, max_tokens: int, runtime: Runtime) -> PromptReader | None:
    """None for a script, and for a model at an endpoint, whose files are not here."""
    place = runtime.place(runtime.role_of(config) if isinstance(config, Reasoner) else role)
    if config.engine.type == "scripted" or (config.engine.type == "server" and place.urls):
        return None
    folder = base_folder(model_folder(config.model, role, config.revision, weights=False))
    positions = getattr(config.engine, "max_model_len", None) or max_positions(folder)
    room = None if positions is None else positions - max_tokens
    digest = model_digest(folder, READER_SUFFIXES)
    least, most = _pixels(config)
    return PromptReader(
        uri=str(folder.resolve()),
        rows=0,
        digest=digest,
        room=room,
        template_kwargs=config.template_kwargs,
        min_pixels=least,
        max_pixels=most,
    )


def frozen(recipe: Recipe) -> tuple[Part, ...]:
    """Parts of the captioner that a stage of the training leaves as they are."""
    return tuple(sorted({part for phase in recipe.phases for part in phase.update.freeze}))


@task(cache_policy=NO_CACHE, persist_result=False)
def show(problems: ProblemTable, part: Literal["training", "heldout"], asked: int) -> None:
    """The counts of a preparation, and the first of the rows behind them, as Prefect artifacts.

    Says when there are fewer problems than the `asked` ones: of an iteration, or of the held-out part.
    """
    found = statistics.read(problems)
    if problems.rows < asked:
        get_run_logger().warning(SHORTAGE[part], asked, problems.rows)
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
    """A captioner whose weights cannot be changed from here."""


@task(cache_policy=NO_CACHE, persist_result=False)
def adopt_captioner(config: Captioner, runtime: Runtime, freeze: tuple[Part, ...] | None = None) -> Policy:
    """The initial policy: the captioner as it was given. `freeze`: parts that will not be trained; None: no training.

    Raises ModelNotFound, UnsupportedModel, NoPixelLimits, NoSuchPart, OtherLogProbs and CannotTrain.

    A scripted engine needs no model, but the next policy is made from this one's files.
    """
    if config.engine.type == "server" and runtime.captioner.urls:
        raise CannotTrain(
            "runtime.captioner.urls: training changes the captioner's weights, which running endpoints keep; leave it "
            "empty and a server is started"
        )
    if config.dtype == "float16":
        raise CannotTrain(
            "captioner.dtype: float16 overflows in training; set captioner.dtype=bfloat16, which has float32's range"
        )
    folder = model_folder(config.model, "captioner", config.revision)
    if config.lora is not None and Adapter.read(folder):
        raise CannotTrain(
            f"captioner.lora: captioner.model ({config.model}) is an adapter already, and is trained further as it is; "
            "leave lora out"
        )
    if config.engine.type != "scripted":
        _check("captioner", config, folder)
    model_parts.require(folder, freeze or ())
    if freeze is not None and config.model != "embedded" and config.engine.type != "scripted":
        from racro.training import output_layer  # torch and TRL

        output_layer.require(config.model, folder)
    return Policy(uri=str(folder.resolve()), rows=0, digest=model_digest(folder))


def _pixels(config: ModelSection) -> PixelRange:
    return config.pixels if isinstance(config, Captioner) else UNLIMITED


def _check(role: Role, config: ModelSection, folder: Path) -> None:
    """Say what is special about how a model will be prompted. Raises UnsupportedModel and BadTemplate."""
    if note := compatibility.check(
        role, config.model, folder, config.template_kwargs, _pixels(config), config.reads_images
    ):
        get_run_logger().warning("%s: %s", role, note)


@task(cache_policy=NO_CACHE, persist_result=False)
def adopt_reasoner(config: Reasoner, runtime: Runtime, scores: bool = False) -> FrozenModel:
    """The frozen reasoner. One behind an endpoint is known by its name alone.

    `scores`: will it be asked how probable a given text is?
    Raises ModelNotFound, UnsupportedModel, and BadInput where an endpoint does not have it.
    """
    return _frozen(runtime.role_of(config), config, runtime, scores)


@task(cache_policy=NO_CACHE, persist_result=False)
def adopt_judges(recipe: Recipe, rewards: Sequence[Reward] | None = None) -> dict[str, FrozenModel]:
    """The frozen models that rewards ask, by their names under `judges`. Raises what `adopt_reasoner` raises.

    `rewards` None: those of the recipe.
    """
    asked = recipe.judged() if rewards is None else recipe.judged(rewards)
    return {name: _frozen(f"{JUDGES}{name}", recipe.judges[name], recipe.runtime) for name in asked}


def _frozen(role: Role, config: Reasoner | Judge, runtime: Runtime, scores: bool = False) -> FrozenModel:
    if config.engine.type == "scripted":
        return FrozenModel(uri="scripted:", rows=0, digest="scripted")
    place = runtime.place(role)
    if config.engine.type == "server" and place.urls:
        for trouble in away(place, config.model, role, scores):  # what is known already needs no endpoint
            get_run_logger().warning("%s: no answer from %s", role, trouble)
        return FrozenModel(uri="endpoint:", rows=0, digest=f"endpoint:{config.model}")
    folder = model_folder(config.model, role, config.revision, sees=config.reads_images)
    _check(role, config, folder)
    return FrozenModel(uri=str(folder.resolve()), rows=0, digest=model_digest(folder))
