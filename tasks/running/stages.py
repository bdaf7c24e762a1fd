"""Runs stages for a flow and keeps the ledger: what was executed, what came from the cache, how long it took."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from typing import Any, TypeVar

from prefect import Task

from racro.config import Runtime
from racro.schema import Handle
from racro.storage import artifacts, layout
from racro.storage.leases import Fenced
from racro.summary import StageTotal
from tasks.running import stopping
from tasks.running.locks import alone
from tasks.running.policies import Identity, RecordStorage, record_storage

H = TypeVar("H", bound=Handle)


class Stages:
    """The stages of one flow run on one root. Threads of the flow run may use it together (`tasks.running.beside`)."""

    def __init__(self, root: str, runtime: Runtime) -> None:
        self.root, self.runtime = root, runtime
        self.totals: dict[str, StageTotal] = {}
        self.counting = threading.Lock()

    @functools.cached_property
    def storage(self) -> RecordStorage:
        """The root as Prefect's server knows it, which a stage that runs needs."""
        return record_storage(self.root)

    def run(self, task: Task[..., Any], run_name: str, returns: type[H], **inputs: Any) -> H:
        """Run a stage under the recipe's retries and timeout, or take its result from the cache.

        Waits while another run makes the same, on this machine or another one. Raises what the stage raised.
        """
        stage = task.name
        delays = [self.runtime.retry_delay * 2**i for i in range(self.runtime.retries)]
        configured = task.with_options(
            task_run_name=run_name,
            result_storage=self.storage,
            retries=self.runtime.retries,
            retry_delay_seconds=delays or 0,
            timeout_seconds=getattr(self.runtime.timeouts, stage.partition("-")[0]),  # one for all rewards
        )
        start = time.monotonic()
        assert isinstance(task.cache_policy, Identity)
        key = layout.artifact_key(stage, task.cache_policy.digest(inputs))
        handle, state = None, None
        while handle is None or state is None:
            with alone(self.root, key, lambda: artifacts.known_record(f"{self.root}/{key}") is None):
                stopping.require_going_on()
                state = configured(**inputs, runtime=self.runtime, root=self.root, return_state=True)
            with contextlib.suppress(Fenced):  # then the other run is waited for, and its result taken
                handle = state.result()
        cached = state.name == "Cached"
        with self.counting:
            before = self.totals.get(stage, StageTotal(seconds=0.0, executed=0, cached=0))
            self.totals[stage] = StageTotal(
                seconds=round(before.seconds + time.monotonic() - start, 3),
                executed=before.executed + (not cached),
                cached=before.cached + cached,
            )
        if not isinstance(handle, returns):
            raise TypeError(f"stage {stage} returned {type(handle).__name__}, not {returns.__name__}")
        return handle

    def known(self, task: Task[..., Any], **inputs: Any) -> bool:
        """Is the result of a stage there, so that it would not be executed?"""
        assert isinstance(task.cache_policy, Identity)
        folder = layout.artifact(self.root, task.name, task.cache_policy.digest(inputs))
        return artifacts.known_record(folder) is not None

    @staticmethod
    def record(handle: Handle) -> artifacts.Record:
        """The record behind a handle: metrics, and seconds when it was made."""
        record = artifacts.known_record(handle.uri)
        if record is None:
            raise artifacts.BadArtifact(f"{handle.uri} holds no record; run again to rebuild it")
        return record
