"""Stage update: scored rollouts + policy -> next policy. Thin: `racro.training.trainer` trains, this moves files."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from prefect import get_run_logger

from racro import config as recipes
from racro.models.folders import TRAINER
from racro.schema import Policy, ProblemTable, ScoredTable
from racro.storage.files import folder_digest, full_disk_as_such, is_local, opened, with_retries
from racro.storage.layout import LINEAGE, RECORD
from racro.training.lineage import Lineage
from tasks.running import trainer
from tasks.running.engines import make_room
from tasks.running.policies import Output, stage
from tasks.running.progress import Progress


@stage("update", version=4)
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
    keep: bool,
    save: bool,
    objective: recipes.Objective = "caption",
    writer: Policy | None = None,
    remember: bool = False,
) -> Policy:
    """The policy after one iteration. Without any informative group it is the old one, and the log says so.

    initial: the policy that the stage of the training began with; from there the optimizer's steps are counted.
    keep: is its model folder kept beside the record? save: the trainer's state? writer: the policy that wrote the
    captions, if it is the one before `policy`. remember: will the next update be on captions of `policy`?
    """
    line = Lineage(
        policy=policy,
        scored=scored,
        problems=problems,
        initial=initial,
        captioner=captioner,
        temperature=temperature,
        config=config,
        seed=seed,
        objective=objective,
        writer=writer,
    )
    with trainer.turn():
        return _taken(output, line, runtime, root, keep, save, remember)


def _taken(
    output: Output, line: Lineage, runtime: recipes.Runtime, root: str, keep: bool, save: bool, remember: bool
) -> Policy:
    policy, initial = line.policy, line.initial
    behind = policy.step - line.writer.step if line.writer else 0
    stale: dict[str, float] = {"staleness_iterations": int(line.writer is not None), "staleness_steps": behind}
    work = trainer.work_of(line)
    logger = get_run_logger()
    logger.info(
        "%d of %d groups are informative (%d all alike); %d optimizer steps",
        len(work.groups) + work.left_over,
        work.total_groups,
        work.zero_variance,
        work.steps,
    )
    line.write(output.folder, root)
    if not work.steps:
        logger.warning("no informative group: the policy stays as it is")
        output.metrics = {"steps": 0, "groups": work.total_groups, "groups_zero_variance": work.zero_variance} | stale
        if keep:
            with trainer.folder(policy, runtime, make_room) as before, _workplace(output.folder) as place:
                ignored = shutil.ignore_patterns("*.tmp", RECORD, LINEAGE, TRAINER)
                shutil.copytree(before, place, dirs_exist_ok=True, ignore=ignored)
        kept = None
        if save and policy.digest != initial.digest:
            make_room(runtime)
            with _workplace(output.folder) as place:
                trainer.holding(policy, line, runtime).save(policy.digest, place / TRAINER)
                kept = folder_digest(place / TRAINER)
        return policy.model_copy(update={"uri": output.folder, "trainer_digest": kept})
    make_room(runtime)
    service = trainer.holding(policy, line, runtime, line.writer)
    again = trainer.replayed()
    progress = Progress("update", "steps")
    made = Policy(uri=output.folder, rows=0, digest=output.identity, step=policy.step + work.steps)
    output.metrics = service.update(
        policy.digest, made.digest, work, line.problems.uri, policy.step - initial.step, progress, remember
    )
    assert "logprob_gap" in output.metrics  # the trainer has the weights that wrote
    output.metrics |= {"replayed": again, **stale}
    progress.finish()
    with _workplace(output.folder) as place:
        found = {"weights": trainer.export(service, made.digest, place if keep else None, runtime)}
        if save:
            service.save(made.digest, place / TRAINER)
            found["trainer_digest"] = folder_digest(place / TRAINER)
    if save:
        trainer.saved(made)
    return made.model_copy(update=found)


@contextlib.contextmanager
def _workplace(folder: str) -> Iterator[Path]:
    """A local folder to write into, uploaded to `folder` at the end where that is not local."""
    fs, path = opened(folder)
    if is_local(fs):
        Path(path).mkdir(parents=True, exist_ok=True)
        with full_disk_as_such(path):
            yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="racro-policy-") as temporary:
        with full_disk_as_such(temporary):
            yield Path(temporary)
        with_retries(lambda: fs.put(f"{temporary}/", f"{path}/", recursive=True))
