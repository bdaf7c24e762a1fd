"""Warm engines: the reasoner stays loaded, the captioner follows the policy.

What an engine holds is a cache of an artifact, never the only copy. Called by the stages that generate.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from racro.config import Captioner, Reasoner, Runtime
from racro.engines.opening import open_captioner, open_reasoner, outside
from racro.engines.prefetcher import Ahead
from racro.engines.protocol import Engine, EngineLost, Role, SwapFailed
from racro.home import home
from racro.identity import digest
from racro.schema import FrozenModel, Handle, Policy
from tasks.running.downloads import on_disk

CALLS = {"vllm": 16, "server": 16}
"""Calls that an engine works on at once, by its type; 1 where it is not in the table."""

logger = logging.getLogger("prefect.racro.engines")


@dataclass
class Warm:
    """An open engine: what it was opened for, and whose weights it holds."""

    settings: str
    model: str
    engine: Engine
    files: ExitStack
    """Holds the weights' folder: an engine may read from it as long as it uses them."""


_warm: dict[Role, Warm] = {}


def captioner_engine(config: Captioner, policy: Policy, runtime: Runtime) -> Engine:
    """The captioner's engine with the weights of `policy`. Raises EngineLost."""

    def start(folder: str) -> Engine:
        return open_captioner(config, folder, runtime, engine_log("captioner"))

    return _engine("captioner", digest([config, runtime]), policy, runtime, start)


def reasoner_engine(config: Reasoner, model: FrozenModel, runtime: Runtime) -> Engine:
    """The frozen reasoner's engine; one that takes questions ahead where it runs outside this process."""

    def start(folder: str) -> Engine:
        opened = functools.partial(open_reasoner, config, folder, runtime, engine_log("reasoner"))
        return Ahead(opened, CALLS.get(config.engine.type, 1)) if asks_ahead(config, runtime) else opened()

    return _engine("reasoner", digest([config, runtime]), model, runtime, start)


def asks_ahead(config: Reasoner, runtime: Runtime) -> bool:
    """Does the reasoner take questions before the stage that wants the answers?"""
    return runtime.streaming and outside(config, runtime.reasoner)


def make_room(runtime: Runtime) -> None:
    """Before the trainer starts: engines on its GPU give their memory back until they are called again."""
    from racro.models.folders import torch_device

    device = torch_device(runtime.device)
    for role, warm in _warm.items():
        gpus = getattr(runtime, role).gpus
        if device.type == "cuda" and (not gpus or (device.index or 0) in gpus):
            warm.engine.rest()


def release(role: Role) -> None:
    """Close a role's engine."""
    if role in _warm:
        warm = _warm.pop(role)
        with warm.files:
            warm.engine.close()


def release_all() -> None:
    """Close every engine: at the end of a flow."""
    release("captioner")
    release("reasoner")


def engine_log(role: Role) -> Path:
    """Where a role's engine writes what it prints, while this process lasts."""
    return home() / "engines" / str(os.getpid()) / f"{role}.log"


def _engine(role: Role, settings: str, model: Handle, runtime: Runtime, start: Callable[[str], Engine]) -> Engine:
    warm = _warm.get(role)
    if warm is not None and (warm.settings != settings or warm.engine.lost):
        release(role)
        warm = None
    if warm is not None and warm.model == model.digest:
        return warm.engine
    with ExitStack() as files:
        folder = str(files.enter_context(on_disk(model, runtime))) if model.has_folder else ""
        if warm is not None:
            try:
                warm.engine.swap(folder)
                warm.model = model.digest
                warm.files.close()
                warm.files = files.pop_all()
                return warm.engine
            except (SwapFailed, EngineLost) as error:
                logger.warning("the %s's engine is started again: %s", role, error)
                release(role)
        engine = start(folder)
        _warm[role] = Warm(settings, model.digest, engine, files.pop_all())
        return engine
