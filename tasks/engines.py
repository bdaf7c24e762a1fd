"""Warm engines of this process: the reasoner stays loaded, the captioner follows the policy.

What an engine holds is a cache of an artifact, never the only copy. Called by the stages that generate.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import fsspec

from racro.config import Captioner, Reasoner, Runtime
from racro.engines import Engine, open_captioner, open_reasoner
from racro.identity import digest
from racro.schema import FrozenModel, Handle, Policy

_warm: dict[str, tuple[str, Engine]] = {}


def captioner_engine(config: Captioner, policy: Policy, runtime: Runtime) -> Engine:
    """The captioner's engine with the weights of `policy`."""
    return _engine(
        "captioner",
        digest([config, policy, runtime]),
        lambda: open_captioner(config, str(local_folder(policy)), runtime),
    )


def reasoner_engine(config: Reasoner, model: FrozenModel, runtime: Runtime) -> Engine:
    """The frozen reasoner's engine."""
    return _engine(
        "reasoner",
        digest([config, model, runtime]),
        lambda: open_reasoner(config, str(local_folder(model)), runtime),
    )


def release(role: str) -> None:
    """Close a role's engine, so that its memory is free for the trainer."""
    if role in _warm:
        _warm.pop(role)[1].close()


def local_folder(model: Handle) -> Path:
    """The model's files on this machine: where they are, or downloaded once per digest."""
    fs, path = fsspec.core.url_to_fs(model.uri)
    if "file" in fs.protocol:
        return Path(path)
    cache = Path(os.environ.get("RACRO_HOME", ".racro")) / "cache" / model.digest[:20]
    if not cache.is_dir():
        partial = cache.with_suffix(f".{os.getpid()}.part")
        fs.get(f"{path}/", f"{partial}/", recursive=True)
        partial.rename(cache)
    return cache


def _engine(role: str, key: str, start: Callable[[], Engine]) -> Engine:
    warm_key, engine = _warm.get(role, (None, None))
    if engine is None or warm_key != key:
        release(role)
        engine = start()
        _warm[role] = (key, engine)
    return engine
