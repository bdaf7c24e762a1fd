"""Models on this machine: where they are, or downloaded into a bounded cache and verified. Called by stages."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

from racro.config import Runtime
from racro.home import home
from racro.models.adapters import BadAdapter
from racro.models.folders import TRAINER, ModelNotFound, model_digest
from racro.schema import Handle, Policy
from racro.storage import artifacts, downloads, files
from racro.storage.layout import LINEAGE

GIB = 2**30


def share_cache(runtime: Runtime) -> downloads.Cache:
    """Use the cache of this working directory for what this process downloads."""
    return downloads.share(home() / "cache", int(runtime.cache * GIB))


@contextlib.contextmanager
def on_disk(model: Handle, runtime: Runtime) -> Iterator[Path]:
    """A model's folder on this machine; a downloaded one stays within the context. Raises BadArtifact, Pruned."""
    artifacts.require_files(model.uri)

    def wanted(name: str) -> bool:
        return name not in (TRAINER, LINEAGE, *artifacts.RECORDS)

    with _local(model.uri, _expected(model), runtime, wanted, lambda place: _intact(model, place)) as folder:
        yield folder


@contextlib.contextmanager
def state_on_disk(policy: Policy, runtime: Runtime) -> Iterator[Path]:
    """The folder of the trainer's state that was kept with a policy. Raises BadArtifact."""
    uri, expected = f"{policy.uri}/{TRAINER}", policy.trainer_digest or ""

    def intact(place: Path) -> bool:
        return files.folder_digest(place) == expected

    with _local(uri, expected, runtime, lambda name: True, intact) as folder:
        if not intact(folder):
            raise artifacts.BadArtifact(f"{uri} is corrupt (its digest is not the recorded one); delete it, run again")
        yield folder


@contextlib.contextmanager
def _local(
    uri: str, key: str, runtime: Runtime, wanted: Callable[[str], bool], intact: Callable[[Path], bool]
) -> Iterator[Path]:
    """A folder itself if it is local, otherwise a copy that is `intact`, of its entries that are `wanted`."""
    fs, path = files.opened(uri)
    if files.is_local(fs):
        yield Path(path)
        return

    def entries() -> dict[str, str]:
        found = (entry.rstrip("/") for entry in files.with_retries(lambda: fs.ls(path, detail=False)))
        return {entry.rpartition("/")[2]: entry for entry in found}

    def fetch(place: Path) -> None:
        for name, entry in entries().items():
            if wanted(name):
                files.with_retries(functools.partial(fs.get, entry, f"{place}/{name}", recursive=True))

    size = sum(files.with_retries(functools.partial(fs.du, entry)) for name, entry in entries().items() if wanted(name))
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(share_cache(runtime).folder(key[:20], size, fetch, intact))
        except downloads.Corrupt as error:
            raise artifacts.BadArtifact(
                f"{uri} is corrupt (its files are not those recorded); delete the folder and run again"
            ) from error
        yield folder


def _expected(model: Handle) -> str:
    """What `model_digest` says of a model's files."""
    return model.files if isinstance(model, Policy) else model.digest


def _intact(model: Handle, folder: Path) -> bool:
    try:
        return model_digest(folder) == _expected(model)
    except FileNotFoundError:
        return False
    except BadAdapter as error:
        if isinstance(error.__cause__, ModelNotFound):  # nothing is wrong with the adapter itself
            raise
        return False
