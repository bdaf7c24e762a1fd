"""Stage update: scored rollouts + policy -> next policy. Thin: `racro.training.update` trains, this moves files."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from prefect import get_run_logger

from racro import config as recipes
from racro import imports
from racro.models.folders import TRAINER, TRAINER_SUFFIXES, model_digest
from racro.schema import Policy, Problem, ProblemTable, ScoredRollout, ScoredTable
from racro.storage import artifacts
from racro.storage.files import full_disk_as_such, is_local, opened, with_retries
from racro.training.planning import plan
from tasks.running.downloads import on_disk
from tasks.running.engines import make_room
from tasks.running.policies import Output, stage
from tasks.running.progress import Progress


@stage("update", version=3)
def update(
    output: Output,
    scored: ScoredTable,
    problems: ProblemTable,
    policy: Policy,
    initial: Policy,
    captioner: recipes.Captioner,
    temperature: float,
    config: recipes.UpdateSettings,
    seed: int,
    runtime: recipes.Runtime,
    root: str,
) -> Policy:
    """The policy after one iteration. Without any informative group it is the old one, and the log says so."""
    work = plan(
        list(artifacts.read_table(scored, ScoredRollout)),
        {problem.uid: problem for problem in artifacts.read_table(problems, Problem)},
        policy.digest,
        config.mini_batch,
    )
    logger = get_run_logger()
    logger.info(
        "%d of %d groups are informative (%d all alike); %d optimizer steps",
        len(work.groups) + work.left_over,
        work.total_groups,
        work.zero_variance,
        work.steps,
    )
    make_room(runtime)
    with on_disk(policy, runtime) as before, on_disk(initial, runtime) as start, _workplace(output.folder) as place:
        if work.steps:
            with imports.quick():
                from racro.training import update as grpo  # torch and trl, only where the stage runs
            progress = Progress("update", "steps")
            output.metrics = grpo.update(
                work,
                images_base=problems.uri,
                policy=before,
                initial=start,
                out=place,
                step=policy.step,
                captioner=captioner,
                temperature=temperature,
                config=config,
                runtime=runtime,
                seed=seed,
                progress=progress,
            )
            progress.finish()
        else:
            logger.warning("no informative group: the policy stays as it is")
            shutil.copytree(before, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("record.json"))
            output.metrics = {"steps": 0, "groups": work.total_groups, "groups_zero_variance": work.zero_variance}
        trainer = place / TRAINER
        made = Policy(
            uri=output.folder,
            rows=0,
            digest=model_digest(place),
            step=policy.step + work.steps,
            trainer_digest=model_digest(trainer, TRAINER_SUFFIXES) if trainer.is_dir() else None,
        )
    return made


@contextlib.contextmanager
def _workplace(folder: str) -> Iterator[Path]:
    """A local folder to write into, uploaded to `folder` at the end where that is not local."""
    fs, path = opened(folder)
    if is_local(fs):
        shutil.rmtree(path, ignore_errors=True)  # leftovers of a killed attempt
        Path(path).mkdir(parents=True)
        with full_disk_as_such(path):
            yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="racro-policy-") as temporary:
        with full_disk_as_such(temporary):
            yield Path(temporary)
        with_retries(lambda: fs.put(f"{temporary}/", f"{path}/", recursive=True))
