"""When a stage runs: cached by identity, retried on what can heal.

A stage is a Prefect task whose result is a handle to an artifact. Its cache key names the artifact's folder, and the
folder's record *is* the cached result: present means done, in any run, on any machine that sees the root. There is no
second cache that could disagree with the data. Not here: what stages do (`racro`), in which order (`flows`).
"""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from prefect import Task
from prefect.cache_policies import CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.exceptions import ObjectAlreadyExists
from prefect.filesystems import WritableFileSystem
from prefect.results import ResultRecord, ResultRecordMetadata
from prefect.serializers import JSONSerializer

from racro import identity, schema
from racro.cluster.files import Traffic, traffic
from racro.engines import openings
from racro.engines.protocol import EngineLost
from racro.storage import artifacts, attempts, files, layout
from racro.training.failures import TrainerLost
from tasks.running import stopping, telemetry
from tasks.running.downloads import share_cache
from tasks.running.signals import uncovered

RUNTIME = ("runtime", "root", "ahead", "max_unscored", "title", "judge_names", "keep", "save", "remember")
"""Inputs that are not part of the identity: they say where, when and how fast, when a stage fails, or its title in
messages."""


@dataclass
class Output:
    """What a stage's body writes into, and says about what it wrote."""

    folder: str
    identity: str
    """Digest of what determines the output."""
    shards: tuple[artifacts.Shard, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(kw_only=True)
class Identity(CachePolicy):
    """Cache key = artifact folder = stage name, version, prompts, and all inputs but the runtime.

    An input that has a default came later than the stage: at its default it is no part of the identity.
    """

    stage: str
    version: int
    prompts: str
    defaults: dict[str, Any] = field(default_factory=dict)

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str:
        return layout.artifact_key(self.stage, self.digest(inputs))

    def digest(self, inputs: dict[str, Any]) -> str:
        """Digest of what determines the stage's output."""
        code = {"stage": self.stage, "version": self.version, "prompts": self.prompts}
        return identity.digest({**code, "inputs": self.determining(inputs)})

    def determining(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The inputs without the runtime and without those at their default, as they stand in the record."""
        return {
            name: identity.fingerprint(value)
            for name, value in inputs.items()
            if name not in RUNTIME and not (name in self.defaults and value == self.defaults[name])
        }


class RecordStorage(WritableFileSystem):
    """Prefect's result storage as a view on the records under a root. Writing is the stage's own last act.

    `_sync` is how Prefect says that it calls from synchronous code, as it does for tasks that are no coroutines.
    """

    _block_type_name = "RACRO records"
    root: str

    def _resolve_path(self, path: str) -> None:
        """Keys are relative to the root already; without this Prefect would relate them to the working directory."""

    def read_path(self, path: str, _sync: bool = True) -> bytes:  # type: ignore[override]
        """The record of an artifact, in the form of a Prefect result. Raises FileNotFoundError when there is none.

        A pruned one was made too: whoever needs its files learns there that they are gone.
        """
        folder = f"{self.root}/{path}"
        record = artifacts.known_record(folder)
        if record is None:
            raise FileNotFoundError(folder)
        metadata = ResultRecordMetadata(storage_key=path, serializer=JSONSerializer())
        return ResultRecord(result=handle_of(record, folder), metadata=metadata).serialize()

    def write_path(self, path: str, content: bytes, _sync: bool = True) -> None:  # type: ignore[override]
        """Nothing to do: a stage that returned has written its record."""


def record_storage(root: str) -> RecordStorage:
    """The storage of a root, known to the Prefect server (which insists on it), under a name made of the root's."""
    files, name = RecordStorage(root=root), f"root-{identity.digest(root)[:12]}"
    try:
        files.save(name, overwrite=True)
    except ObjectAlreadyExists:  # another process has told a new server of this kind of storage meanwhile
        files.save(name, overwrite=True)
    return files


def _travelled(before: Traffic) -> dict[str, float]:
    """Copies of weights between machines during a stage, as metrics; nothing where none were made."""
    sent = traffic().bytes - before.bytes
    return {"cluster_bytes": sent, "cluster_seconds": round(traffic().seconds - before.seconds, 3)} if sent else {}


def handle_of(record: artifacts.Record, folder: str) -> schema.Handle:
    """The handle that a record stands for; `folder`: where the record was found."""
    handle_type: type[schema.Handle] = getattr(schema, record.handle_type)
    return handle_type(uri=artifacts.files_of(folder, record), **record.handle)


def can_heal(task: Task[..., Any], run: TaskRun, state: State) -> bool:
    """Prefect's retry condition."""
    if state.name == "TimedOut":
        return False
    try:
        state.result()
    except Exception as error:
        return heals(error)
    return False


def heals(error: Exception) -> bool:
    """Can another attempt get past this? Everything else (bad input, full disk, a bug) would only repeat.

    Nothing is attempted again once what ran beside it has ended: engines were closed on purpose.
    """
    return not stopping.stopped() and (isinstance(error, EngineLost | TrainerLost) or files.is_transient(error))


def stage(name: str, version: int, prompts: str = "") -> Callable[[Callable[..., schema.Handle]], Task[..., Any]]:
    """Make a stage of a body `(output, **inputs) -> handle`.

    The body writes its files under `output.folder` and returns the handle; the record is written after it. Bump
    `version` in the commit that changes what the stage makes of the same inputs. `prompts`: digest of the prompts it
    uses.
    """

    def wrap(body: Callable[..., schema.Handle]) -> Task[..., Any]:
        signature = inspect.signature(body)
        defaults = {p.name: p.default for p in signature.parameters.values() if p.default is not p.empty}
        policy = Identity(stage=name, version=version, prompts=prompts, defaults=defaults)
        inputs_only = signature.replace(parameters=list(signature.parameters.values())[1:])

        @functools.wraps(body)
        def run(*args: Any, **kwargs: Any) -> schema.Handle:
            inputs = inputs_only.bind(*args, **kwargs).arguments
            digest = policy.digest(inputs)
            folder = layout.artifact(inputs["root"], name, digest)
            output = Output(attempts.new(folder), digest)
            start = time.monotonic()
            share_cache(inputs["runtime"])
            before, opened = traffic(), openings.seconds()
            try:
                with uncovered():
                    handle = body(output, **inputs)
                output.metrics |= _travelled(before) | openings.since(opened)
                record = artifacts.write_record(
                    output.folder,
                    artifacts.Record(
                        stage=name,
                        identity=digest,
                        inputs=policy.determining(inputs),
                        code_version=importlib.metadata.version("racro"),
                        handle=handle.model_dump(mode="json", exclude={"uri"}),
                        handle_type=type(handle).__name__,
                        shards=output.shards,
                        metrics=output.metrics,
                        seconds=round(time.monotonic() - start, 3),
                        finished=round(time.time(), 3),
                    ),
                )
            except BaseException:  # raised again; what was written is of no use, and may be large
                telemetry.attempt("the removal of a failed attempt", lambda: attempts.discard(output.folder), last=True)
                raise
            return handle_of(record, folder)

        run.__signature__ = inputs_only  # type: ignore[attr-defined]  # what Prefect shows as the task's parameters
        return Task(
            fn=run,
            name=name,
            cache_policy=policy,
            persist_result=True,
            result_serializer=JSONSerializer(),
            retry_condition_fn=can_heal,
        )

    return wrap
