"""The cached engines of this process: the reasoner stays loaded, the captioner gets the weights of each policy.

The weights in an engine are a copy of an artifact, never the only one. Called by the stages that generate.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from racro.config import Captioner, Reasoner, Runtime
from racro.engines.opening import open_captioner, open_reasoner
from racro.engines.protocol import Engine, EngineLost, Role, SwapFailed
from racro.home import home
from racro.identity import digest
from racro.models import devices
from racro.schema import FrozenModel, Handle, Policy
from tasks.running import trainer

logger = logging.getLogger("prefect.racro.engines")


@dataclass
class CachedEngine:
    """An open engine: what it was opened for, and whose weights it holds."""

    settings: str
    model: str
    engine: Engine
    files: ExitStack
    """Keeps the folder of the weights on disk: an engine may read from it as long as it uses them."""


_cached: dict[Role, CachedEngine] = {}


def captioner_engine(config: Captioner, policy: Policy, runtime: Runtime) -> Engine:
    """The captioner's engine with the weights of `policy`. Raises EngineLost."""

    def start(folder: str) -> Engine:
        return open_captioner(config, folder, runtime, engine_log("captioner"))

    return _engine("captioner", digest([config, runtime]), policy, runtime, start)


def reasoner_engine(config: Reasoner, model: FrozenModel, runtime: Runtime) -> Engine:
    """The frozen reasoner's engine; if it can prefetch, it is opened in the background at the first request."""

    def start(folder: str) -> Engine:
        return open_reasoner(config, folder, runtime, engine_log("reasoner"), background=True)

    return _engine("reasoner", digest([config, runtime]), model, runtime, start)


def make_room(runtime: Runtime) -> None:
    """Before the trainer starts: engines on its GPUs free their memory until they are called again.

    The captioner's weights are not kept: the next ones come from the trainer.
    """
    for role, cached in _cached.items():
        if devices.shared(runtime, role):
            cached.engine.sleep(discard=role == "captioner")


def release(role: Role) -> None:
    """Close a role's engine."""
    if role in _cached:
        cached = _cached.pop(role)
        with cached.files:
            cached.engine.close()


def release_all() -> None:
    """Close every engine and the trainer: at the end of a flow."""
    release("captioner")
    release("reasoner")
    trainer.release()


def engine_log(role: Role) -> Path:
    """The log file of a role's engine in another process. Each process has its own."""
    return home() / "engines" / str(os.getpid()) / f"{role}.log"


def _engine(role: Role, settings: str, model: Handle, runtime: Runtime, start: Callable[[str], Engine]) -> Engine:
    if devices.shared(runtime, role):
        trainer.rest(runtime)
    cached = _cached.get(role)
    if cached is not None and (cached.settings != settings or cached.engine.lost):
        release(role)
        cached = None
    if cached is not None and cached.model == model.digest:
        return cached.engine
    with ExitStack() as files:
        # A model that only an endpoint or a script knows has no folder.
        folder = str(files.enter_context(trainer.folder(model, runtime, make_room))) if model.has_folder else ""
        if cached is not None:
            try:
                cached.engine.swap(folder)
                cached.model = model.digest
                cached.files.close()
                cached.files = files.pop_all()
                return cached.engine
            except (SwapFailed, EngineLost) as error:
                logger.warning("the %s's engine is started again: %s", role, error)
                release(role)
        engine = start(folder)
        _cached[role] = CachedEngine(settings, model.digest, engine, files.pop_all())
        return engine
