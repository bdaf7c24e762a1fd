"""Models on this machine: where they are, or downloaded into a bounded cache and verified. Called by stages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from racro.config import Runtime
from racro.home import home
from racro.identity import digest
from racro.models.adapters import BadAdapter
from racro.models.folders import TRAINER, TRAINER_SUFFIXES, ModelNotFound, model_digest
from racro.schema import Handle, Policy
from racro.storage import artifacts, downloads, files

GIB = 2**30


def share_cache(runtime: Runtime) -> downloads.Cache:
    """Use the cache of this working directory for what this process downloads."""
    return downloads.share(home() / "cache", int(runtime.cache * GIB))


@contextlib.contextmanager
def on_disk(model: Handle, runtime: Runtime) -> Iterator[Path]:
    """A model's folder on this machine; a downloaded one stays within the context. Raises BadArtifact, Pruned."""
    artifacts.require_files(model.uri)
    fs, path = files.opened(model.uri)
    if files.is_local(fs):
        yield Path(path)
        return

    def fetch(place: Path) -> None:
        files.with_retries(lambda: fs.get(f"{path}/", f"{place}/", recursive=True))

    key = digest([model.digest, _trainer(model)])[:20]
    size = files.with_retries(lambda: fs.du(path))
    with contextlib.ExitStack() as stack:
        try:
            entry = share_cache(runtime).folder(key, size, fetch, lambda place: _intact(model, place))
            folder = stack.enter_context(entry)
        except downloads.Corrupt as error:
            raise artifacts.BadArtifact(
                f"{model.uri} is corrupt (its files are not those recorded); delete the folder and run again"
            ) from error
        yield folder


def _trainer(model: Handle) -> str | None:
    return model.trainer_digest if isinstance(model, Policy) else None


def _intact(model: Handle, folder: Path) -> bool:
    trainer = _trainer(model)
    try:
        if trainer and model_digest(folder / TRAINER, TRAINER_SUFFIXES) != trainer:
            return False
        return model_digest(folder) == model.digest
    except FileNotFoundError:
        return False
    except BadAdapter as error:
        if isinstance(error.__cause__, ModelNotFound):  # nothing is wrong with the adapter itself
            raise
        return False
