"""The trainer of this process, warm from iteration to iteration. It makes policies again that are needed and not kept.

A policy's weights are beside its record (evaluated ones and the last), in this process's scratch (the newest), or they
are replayed: from the last state of the trainer that was kept, through the scored rollouts of the updates since.
Called by the stage update, and through `folder` by all that loads a captioner. It works for one thread at a time.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from racro.config import Runtime
from racro.engines import openings
from racro.engines.waiting import WAIT
from racro.home import home
from racro.identity import digest
from racro.models.adapters import CONFIG
from racro.models.folders import model_digest, model_folder
from racro.schema import Handle, Policy, Problem, ScoredRollout
from racro.storage import artifacts, attempts, files, layout
from racro.storage.layout import LINEAGE, RECORD
from racro.training.lineage import Lineage, NoLineage
from racro.training.planning import Plan, plan
from racro.training.service import Service, opened
from tasks.running import states, stopping
from tasks.running.downloads import on_disk
from tasks.running.locks import alone
from tasks.running.scratch import Scratch, at
from tasks.running.trainer_memory import wait_for_memory

if TYPE_CHECKING:
    from racro.training.trainer import Training

logger = logging.getLogger("prefect.racro.trainer")
MARKS = ("config.json", CONFIG)
"""Files that a model folder, or an adapter's, always has."""


class Warm:
    """The trainer, the settings that it was opened for, and what it wrote on this machine."""

    def __init__(self) -> None:
        self.settings = ""
        self.service: Service | None = None
        self.files = contextlib.ExitStack()
        """Keeps the initial policy's folder."""
        self.initial = ""
        """The policy that the settings begin with: no state of it is needed."""
        self.saved: set[str] = set()
        """Policies whose state was kept."""
        self.replayed = 0
        """Updates that had to be taken again for the policy that was asked for last."""
        self.scratches: dict[Path, Scratch] = {}

    def scratch(self, runtime: Runtime) -> Scratch:
        """The folder for weights on their way."""
        place = at(runtime.scratch).absolute()
        with _opening_scratch:
            if place not in self.scratches:
                self.scratches[place] = Scratch(place)
            return self.scratches[place]


_opening_scratch = threading.Lock()
_turn = threading.RLock()
_warm = Warm()


@contextlib.contextmanager
def turn() -> Iterator[None]:
    """Alone with the trainer: an update, or making a policy again. Waits; raises Stopped."""
    while not _turn.acquire(timeout=WAIT):
        stopping.require_going_on()
    try:
        yield
    finally:
        _turn.release()


def holding(policy: Policy, made_by: Lineage, runtime: Runtime, writer: Policy | None = None) -> Service:
    """The trainer with the weights and the optimizer of `policy`: as it is, from a state, or by replay.

    The initial policy of a stage has an optimizer that has done nothing yet, whatever was trained before it.

    `made_by`: the update that is about to be taken from `policy`, or that was taken to make it. `writer`: the policy
    before, whose weights the trainer is to remember; no state has them, so the update from it is then replayed. Raises
    NoLineage.
    """
    service = _service(made_by, runtime)
    _warm.replayed = 0
    updates: list[tuple[Lineage, Policy]] = []
    here, start = policy, None
    with contextlib.ExitStack() as stack:
        begun = (service.policy, made_by.initial.digest)
        forgotten = writer is not None and service.earlier != writer.digest
        while (forgotten and here.digest == policy.digest) or (
            here.digest not in begun and (start := states.find(here, _warm.scratch(runtime), runtime, stack)) is None
        ):
            line = Lineage.read(here)
            if _settings(line, runtime) != _warm.settings:
                _hand_over(here, line, runtime)
                service, begun = _service(made_by, runtime), (None, made_by.initial.digest)
                continue
            updates.append((line, here))
            here = line.policy
        if here.digest != service.policy:
            training = _training(made_by, runtime)
            if service.policy is not None:
                service.rest()  # what it holds of another policy is in the way
            wait_for_memory(training)
            with openings.counted("trainer"):
                service.begin(training, start, here.digest)
    for line, made in reversed(updates):
        if made.digest != line.policy.digest:  # an update without signal made nothing new
            logger.info("replaying the update to policy %s", made.digest[:12])
            work = work_of(line)
            taken = line.policy.step - line.initial.step
            names, keep = (line.policy.digest, made.digest), writer is not None
            service.update(*names, work, line.problems.uri, taken, lambda *_: None, keep)
            _warm.replayed += 1
    return service


def _hand_over(policy: Policy, made_by: Lineage, runtime: Runtime) -> None:
    """Put the state of the policy with which the stage before ended into scratch, for the stage that goes on from it.

    What that stage replays, it replays with its own settings.
    """
    before = holding(policy, made_by, runtime)
    name = policy.digest
    _warm.scratch(runtime).make(f"{states.STATE}{name}", lambda place: before.save(name, place), kind=states.STATE)


def work_of(line: Lineage) -> Plan:
    """The plan of an update."""
    return plan(
        list(artifacts.read_table(line.scored, ScoredRollout)),
        {problem.uid: problem for problem in artifacts.read_table(line.problems, Problem)},
        line.policy.digest,
        line.config.mini_batch,
        line.objective,
        line.writer.digest if line.writer else None,
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
    with _warm.scratch(runtime).use(model.digest) as place:
        if not place.is_dir():
            with turn():
                if not place.is_dir():  # no other thread has made it meanwhile
                    make_room(runtime)
                    _again(model, runtime)
        yield place


def _again(policy: Policy, runtime: Runtime) -> None:
    """Make a policy again, into scratch."""
    found = export(holding(policy, Lineage.read(policy), runtime), policy.digest, None, runtime)
    if found != policy.files:
        logger.warning(
            "policy %s was made again with other rounding (weights %s, were %s); importance ratios cover it",
            *(name[:12] for name in (policy.digest, found, policy.files)),
        )


def keep(policy: Policy, runtime: Runtime, make_room: Callable[[Runtime], None]) -> None:
    """Have a policy's model folder lie beside its record, also if nobody wanted that when it was made."""
    if artifacts.read_record(policy.uri) is None or _kept(policy):  # pruned, or there
        return
    root, _, key = attempts.split(policy.uri)[0].rpartition(f"/{layout.ARTIFACTS}/")
    waiting = alone(root, f"{layout.ARTIFACTS}/{key}", lambda: not _kept(policy), lease="lease-keep")
    with waiting, folder(policy, runtime, make_room) as place:
        if _kept(policy):  # another run has done it
            return
        if model_digest(place) != policy.files:  # made again with other rounding, which `folder` has said
            return
        fs, path = files.opened(policy.uri)
        wanted = [file for file in place.iterdir() if file.is_file() and file.name not in (RECORD, LINEAGE)]
        # The marks come last, because they say that the rest is there.
        for file in sorted(wanted, key=lambda file: file.name in MARKS):
            files.with_retries(functools.partial(fs.put, str(file), f"{path}/{file.name}"))


def rest(runtime: Runtime) -> None:
    """Free the trainer's memory, for an engine on the same GPU. A state that was not kept goes to scratch first."""
    with turn():
        service = _warm.service
        if service is None or service.policy is None:
            return
        name, kind = service.policy, states.STATE
        if name not in _warm.saved and name != _warm.initial:
            _warm.scratch(runtime).make(f"{kind}{name}", lambda place: service.save(name, place), kind=kind)
        service.rest()


def replayed() -> int:
    """How many updates had to be taken again for the policy that was asked for last."""
    return _warm.replayed


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
    settings = _settings(line, runtime)
    if _warm.service is None or _warm.settings != settings or _warm.service.closed:
        if _warm.service is not None:
            _warm.service.close()
        with openings.counted("trainer"):
            _warm.service = opened(runtime, home() / "engines" / str(os.getpid()) / "trainer.log")
        _warm.settings, _warm.initial = settings, line.initial.digest
    return _warm.service


def _settings(line: Lineage, runtime: Runtime) -> str:
    """Digest of what a trainer is opened for."""
    return digest([line.initial, line.captioner, line.temperature, line.config, line.seed, runtime])


def _training(line: Lineage, runtime: Runtime) -> Training:
    from racro.training.trainer import Training  # loads torch

    _warm.files.close()
    initial = _warm.files.enter_context(on_disk(_initial(line), runtime))
    if runtime.trainer.gpus or (runtime.cluster.type == "ray" and runtime.device.startswith("cuda")):
        # GPUs are numbered anew there.
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


def _kept(policy: Policy) -> bool:
    """Are the policy's weights beside its record? Raises Pruned if they were, and its lineage too."""
    if f"/{layout.ARTIFACTS}/" not in policy.uri:
        return True
    artifacts.require_files(policy.uri)
    fs, path = files.opened(policy.uri)
    return any(files.with_retries(functools.partial(fs.exists, f"{path}/{name}")) for name in MARKS)
