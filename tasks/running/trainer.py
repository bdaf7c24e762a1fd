"""The trainer of this process, warm from iteration to iteration, and the policies that it makes again when they are
needed and nobody has kept them.

A policy's weights are beside its record (evaluated ones and the last), in this process's scratch (the newest), or they
are replayed: from the last state of the trainer that was kept, through the scored rollouts of the updates since.
Called by the stage update, and through `folder` by whoever loads a captioner.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from racro.config import Runtime
from racro.home import home
from racro.identity import digest
from racro.models.adapters import CONFIG
from racro.models.folders import TRAINER, model_digest, model_folder
from racro.processes.gpus import NoGpuMemory, memories, visible, wait_for_bytes
from racro.schema import Handle, Policy, Problem, ScoredRollout
from racro.storage import artifacts, files, layout
from racro.storage.layout import LINEAGE, RECORD
from racro.training.failures import TrainerMemory
from racro.training.lineage import Lineage, NoLineage
from racro.training.planning import Plan, plan
from racro.training.service import Service, opened
from tasks.running import telemetry
from tasks.running.downloads import on_disk, state_on_disk
from tasks.running.locks import alone
from tasks.running.scratch import Scratch, at

if TYPE_CHECKING:
    from racro.training.trainer import Training

logger = logging.getLogger("prefect.racro.trainer")
LAST = ".metadata"
"""The file of the trainer's state that is written last."""
MARKS = ("config.json", CONFIG)
"""Files that a model folder, or an adapter's, always has."""
STATE = "state-"
"""Before the name of a policy: the trainer's state in scratch."""


class Warm:
    """The trainer, the settings that it was opened for, and what it wrote on this machine."""

    def __init__(self) -> None:
        self.settings = ""
        self.service: Service | None = None
        self.files = contextlib.ExitStack()
        """Keeps the initial policy's folder."""
        self.saved: set[str] = set()
        """Policies whose state was kept."""
        self.replayed = 0
        """Updates that had to be taken again for the policy that was asked for last."""
        self.scratches: dict[Path, Scratch] = {}

    def scratch(self, runtime: Runtime) -> Scratch:
        """The folder for weights on their way."""
        place = at(runtime.scratch).absolute()
        if place not in self.scratches:
            self.scratches[place] = Scratch(place)
        return self.scratches[place]


_warm = Warm()


def holding(policy: Policy, made_by: Lineage, runtime: Runtime) -> Service:
    """The trainer with the weights and the optimizer of `policy`: as it is, from a state, or by replay.

    `made_by`: the update that is about to be taken from `policy`, or that was taken to make it. Raises NoLineage.
    """
    service = _service(made_by, runtime)
    _warm.replayed = 0
    updates: list[tuple[Lineage, Policy]] = []
    here, start = policy, None
    with contextlib.ExitStack() as stack:
        while here.digest != service.policy and (start := _state(here, runtime, stack)) is None and here.step:
            line = Lineage.read(here)
            updates.append((line, here))
            here = line.policy
        if here.digest != service.policy:
            training = _training(made_by, runtime)
            if service.policy is not None:
                service.rest()  # what it holds of another policy is in the way
            _wait_for_memory(training)
            service.begin(training, start, here.digest)
    for line, made in reversed(updates):
        if made.digest != line.policy.digest:  # an update without signal made nothing new
            logger.info("replaying the update to policy %s", made.digest[:12])
            work = work_of(line)
            service.update(line.policy.digest, made.digest, work, line.problems.uri, line.policy.step, lambda *_: None)
            _warm.replayed += 1
    return service


def work_of(line: Lineage) -> Plan:
    """The plan of an update."""
    return plan(
        list(artifacts.read_table(line.scored, ScoredRollout)),
        {problem.uid: problem for problem in artifacts.read_table(line.problems, Problem)},
        line.policy.digest,
        line.config.mini_batch,
    )


def export(service: Service, name: str, keep: Path | None, runtime: Runtime) -> str:
    """Write the policy that the trainer holds, into `keep` or into scratch; the digest of its files."""
    if keep is not None:
        service.export(name, keep)
        return model_digest(keep)
    return model_digest(_warm.scratch(runtime).make(name, lambda place: service.export(name, place)))


@contextlib.contextmanager
def folder(model: Handle, runtime: Runtime, make_room: Callable[[Runtime], None]) -> Iterator[Path]:
    """A model's folder on this machine, within the context; a policy that was not kept is made again.

    `make_room`: called before the trainer starts. Raises BadArtifact, Pruned, NoLineage.
    """
    while isinstance(model, Policy) and not _kept(model):
        before = Lineage.read(model).policy
        if before.digest != model.digest:
            break
        model = before  # an update without signal made nothing new
    if not isinstance(model, Policy) or _kept(model):
        with on_disk(model, runtime) as place:
            yield place
        return
    scratch = _warm.scratch(runtime)
    if scratch.find(model.digest) is None:
        make_room(runtime)
        found = export(holding(model, Lineage.read(model), runtime), model.digest, None, runtime)
        if found != model.files:
            logger.warning(
                "policy %s was made again with other rounding (weights %s, were %s); importance ratios cover it",
                *(name[:12] for name in (model.digest, found, model.files)),
            )
    with scratch.use(model.digest) as place:
        yield place


def keep(policy: Policy, runtime: Runtime, make_room: Callable[[Runtime], None]) -> None:
    """Have a policy's model folder lie beside its record, also if nobody wanted that when it was made."""
    if artifacts.read_record(policy.uri) is None or _kept(policy):  # pruned, or there
        return
    root, _, key = policy.uri.rpartition(f"/{layout.ARTIFACTS}/")
    with alone(root, f"keep {key}"), folder(policy, runtime, make_room) as place:
        if model_digest(place) != policy.files:  # made again with other rounding, which `folder` has said
            return
        fs, path = files.opened(policy.uri)
        wanted = [file for file in place.iterdir() if file.is_file() and file.name not in (RECORD, LINEAGE)]
        # The marks come last, because they say that the rest is there.
        for file in sorted(wanted, key=lambda file: file.name in MARKS):
            files.with_retries(functools.partial(fs.put, str(file), f"{path}/{file.name}"))


def rest(runtime: Runtime) -> None:
    """Free the trainer's memory, for an engine on the same GPU. A state that was not kept goes to scratch first."""
    service = _warm.service
    if service is None or service.policy is None:
        return
    name = service.policy
    if name not in _warm.saved:
        _warm.scratch(runtime).make(f"{STATE}{name}", lambda place: service.save(name, place), kind=STATE)
    service.rest()


def replayed() -> int:
    """How many updates had to be taken again for the policy that was asked for last."""
    return _warm.replayed


def drop_state(policy: Policy) -> None:
    """Remove the trainer's state that was kept with a policy: later ones are there. Its model folder stays."""
    fs, path = files.opened(f"{policy.uri}/{TRAINER}")

    def remove() -> None:
        if fs.exists(f"{path}/{LAST}"):
            fs.rm_file(f"{path}/{LAST}")  # first: the rest is then no state any more
        if fs.exists(path):
            fs.rm(path, recursive=True)

    telemetry.attempt("the removal of an old state of the trainer", remove)


def saved(policy: Policy) -> None:
    """The state of this policy was kept beside its record."""
    _warm.saved.add(policy.digest)


def release() -> None:
    """End the trainer and remove what it wrote on this machine: at the end of a flow."""
    global _warm
    if _warm.service is not None:
        _warm.service.close()
    _warm.files.close()
    for scratch in _warm.scratches.values():
        scratch.close()
    _warm = Warm()


def _service(line: Lineage, runtime: Runtime) -> Service:
    """The trainer for a training's settings; another one is closed."""
    settings = digest([line.initial, line.captioner, line.temperature, line.config, line.seed, runtime])
    if _warm.service is None or _warm.settings != settings or _warm.service.closed:
        if _warm.service is not None:
            _warm.service.close()
        _warm.service = opened(runtime.trainer, home() / "engines" / str(os.getpid()) / "trainer.log")
        _warm.settings = settings
    return _warm.service


def _wait_for_memory(training: Training) -> None:
    """Return when the trainer's GPUs have room for what it cannot do without. Raises TrainerMemory."""
    from racro.models import devices, memory, sizes

    there = memories()
    if not there or not devices.has_cuda():
        return
    counted = sizes.captioner(training.initial, training.captioner.lora, training.config.freeze)
    need = memory.trainer(counted, training.captioner, training.config, training.runtime)
    try:
        wait_for_bytes(dict.fromkeys(devices.trainer_gpus(training.runtime, visible(list(there))), need.certain))
    except NoGpuMemory as error:
        raise TrainerMemory(f"the trainer cannot start: {error}, or see racro doctor RECIPE") from error


def _training(line: Lineage, runtime: Runtime) -> Training:
    from racro.training.trainer import Training  # loads torch

    _warm.files.close()
    initial = _warm.files.enter_context(on_disk(_initial(line), runtime))
    if runtime.trainer.gpus:  # in the trainer's processes they are numbered anew
        runtime = runtime.model_copy(update={"device": "cuda"})
    return Training(initial, line.captioner, line.temperature, line.config, runtime, line.seed)


def _initial(line: Lineage) -> Policy:
    """The initial policy, which another machine may have had elsewhere. Raises NoLineage, ModelNotFound."""
    fs, path = files.opened(line.initial.uri)
    if not files.is_local(fs) or Path(path).is_dir():
        return line.initial
    place = model_folder(line.captioner.model, "captioner", line.captioner.revision)
    if (found := model_digest(place)) != line.initial.digest:
        raise NoLineage(f"{place} holds {found[:12]}, and the training began with {line.initial.digest[:12]}")
    return line.initial.model_copy(update={"uri": str(place)})


def _state(policy: Policy, runtime: Runtime, stack: contextlib.ExitStack) -> Path | None:
    """The trainer's state for a policy, as long as the stack is open; None if there is none."""
    scratch = _warm.scratch(runtime)
    name = f"{STATE}{policy.digest}"
    if scratch.find(name):
        return stack.enter_context(scratch.use(name))
    if policy.trainer_digest is None:
        return None
    fs, path = files.opened(f"{policy.uri}/{TRAINER}/{LAST}")
    if not files.with_retries(lambda: fs.exists(path)):  # removed, because a later one is there
        return None
    try:
        return stack.enter_context(state_on_disk(policy, runtime))
    except artifacts.BadArtifact as error:
        logger.warning("%s; an earlier state is taken, and updates since are replayed", error)
        return None


def _kept(policy: Policy) -> bool:
    """Are the policy's weights beside its record? Raises Pruned if they were, and its lineage too."""
    if f"/{layout.ARTIFACTS}/" not in policy.uri:
        return True
    artifacts.require_files(policy.uri)
    fs, path = files.opened(policy.uri)
    return any(files.with_retries(functools.partial(fs.exists, f"{path}/{name}")) for name in MARKS)
