"""The cached engines of this process: frozen models stay loaded, the captioner gets the weights of each policy.

The weights in an engine are a copy of an artifact, never the only one. Called by the stages that generate.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from racro.cluster import session as cluster
from racro.config import JUDGES, REASONERS, Captioner, Judge, ModelSection, Reasoner, Runtime
from racro.engines.opening import open_captioner, open_judge, open_reasoner, runs_outside, wait_for_wake
from racro.engines.protocol import Engine, EngineLost, Role, SwapFailed
from racro.home import home
from racro.identity import digest
from racro.models import devices
from racro.schema import FrozenModel, Handle, Policy
from tasks.running import stopping, trainer

logger = logging.getLogger("prefect.racro.engines")


@dataclass
class CachedEngine:
    """An open engine: what it was opened for, and whose weights it holds."""

    settings: str
    model: str
    engine: Engine
    files: ExitStack
    """Keeps the folder of the weights on disk: an engine may read from it as long as it uses them."""
    outside: bool = False
    """Does it run outside this process, so that it can be closed while a thread waits for it?"""
    asleep: bool = False
    """Does it wait for the trainer to be done with its GPUs?"""


_cached: dict[Role, CachedEngine] = {}
_opening: dict[Role, threading.RLock] = {}
"""Stages that run beside each other open an engine once."""


def captioner_engine(config: Captioner, policy: Policy, runtime: Runtime) -> Engine:
    """The captioner's engine with the weights of `policy`. Raises EngineLost."""

    def start(folder: str) -> Engine:
        return open_captioner(config, folder, runtime, engine_log("captioner"))

    return _engine("captioner", config, policy, runtime, start)


def reasoner_engine(config: Reasoner, model: FrozenModel, runtime: Runtime) -> Engine:
    """The frozen reasoner's engine; if it can prefetch, it is opened in the background at the first request.

    Several reasoners take turns, wherever they are: the one before is closed.
    """
    role = runtime.role_of(config)

    def start(folder: str) -> Engine:
        return open_reasoner(config, folder, runtime, engine_log(role), background=True)

    for other in _reasoners():
        if other != role:
            release(other)
    return _engine(role, config, model, runtime, start)


def judge_engine(name: str, config: Judge, model: FrozenModel, runtime: Runtime) -> Engine:
    """The engine of a judge."""
    role = f"{JUDGES}{name}"

    def start(folder: str) -> Engine:
        return open_judge(name, config, folder, runtime, engine_log(role))

    return _engine(role, config, model, runtime, start)


def make_room(runtime: Runtime) -> None:
    """Before the trainer starts: engines on its GPUs free their memory until they are called again.

    The captioner's weights are not kept: the next ones come from the trainer.
    """
    for role, cached in list(_cached.items()):
        if devices.shared(runtime, role):
            cached.engine.sleep(discard=role == "captioner")
            cached.asleep = True


def keep(policy: Policy, runtime: Runtime) -> None:
    """Have the model folder of a policy lie beside its record: of those that are evaluated, and of a run's last."""
    trainer.keep(policy, runtime, make_room)


def on_disk(policy: Policy, runtime: Runtime) -> AbstractContextManager[Path]:
    """A policy's model folder on this machine, within the context; made again if it was not kept."""
    return trainer.folder(policy, runtime, make_room)


def release(role: Role) -> None:
    """Close a role's engine."""
    if (cached := _cached.pop(role, None)) is not None:
        with cached.files:
            cached.engine.close()


def release_reasoner() -> None:
    """Close the reasoner's engine, wherever it is."""
    for role in _reasoners():
        release(role)


def interrupt() -> None:
    """Close the engines that run outside this process: whoever waits for one gets its error."""
    for role, cached in list(_cached.items()):
        if cached.outside:
            release(role)


def release_all() -> None:
    """Close every engine and the trainer: at the end of a flow."""
    for role in list(_cached):
        release(role)
    trainer.release()
    cluster.close()


def engine_log(role: str) -> Path:
    """The log file of a role's engine, or the trainer, in other processes. Each process of ours has its own."""
    return home() / "engines" / str(os.getpid()) / f"{role}.log"


def _reasoners() -> list[Role]:
    # A copy, because threads beside this one open engines meanwhile.
    return [role for role in list(_cached) if role == "reasoner" or role.startswith(REASONERS)]


def _engine(
    role: Role, config: ModelSection, model: Handle, runtime: Runtime, start: Callable[[str], Engine]
) -> Engine:
    with _opening.setdefault(role, threading.RLock()):
        return _opened(role, config, model, runtime, start)


def _opened(
    role: Role, config: ModelSection, model: Handle, runtime: Runtime, start: Callable[[str], Engine]
) -> Engine:
    stopping.require_going_on()
    settings, shared = digest([config, runtime]), devices.shared(runtime, role)
    if shared:
        trainer.rest(runtime)
    cached = _cached.get(role)
    if cached is not None and (cached.settings != settings or cached.engine.lost):
        release(role)
        cached = None
    if cached is not None and cached.model == model.digest:
        _wake(role, cached, config, runtime)
        return cached.engine
    with ExitStack() as files:
        # A model that only an endpoint or a script knows has no folder.
        folder = str(files.enter_context(trainer.folder(model, runtime, make_room))) if model.has_folder else ""
        if shared:
            trainer.rest(runtime)  # it may have made this model again
        if cached is not None:
            try:
                _wake(role, cached, config, runtime)
                cached.engine.swap(folder)
                cached.model = model.digest
                cached.files.close()
                cached.files = files.pop_all()
                return cached.engine
            except (SwapFailed, EngineLost) as error:
                logger.warning("the %s's engine is started again: %s", role, error)
                release(role)
        engine = start(folder)
        outside = runs_outside(config, runtime, role)
        _cached[role] = CachedEngine(settings, model.digest, engine, files.pop_all(), outside)
        return engine


def _wake(role: Role, cached: CachedEngine, config: ModelSection, runtime: Runtime) -> None:
    """Before an engine is called again that wakes up by itself then. Raises EngineLost if it has no room to."""
    if cached.asleep:
        wait_for_wake(role, config, runtime)
        cached.asleep = False
