"""States of the trainer (weights, optimizer) that were kept: in scratch, or beside a policy's record.

Called by `tasks.running.trainer` and the flow `train`.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from racro.config import Runtime
from racro.models.folders import TRAINER
from racro.schema import Policy
from racro.storage import artifacts, files
from tasks.running import telemetry
from tasks.running.downloads import state_on_disk
from tasks.running.scratch import Scratch

logger = logging.getLogger("prefect.racro.trainer")
LAST = ".metadata"
"""The file of the trainer's state that is written last."""
STATE = "state-"
"""Before the name of a policy: the trainer's state in scratch."""


def find(policy: Policy, scratch: Scratch, runtime: Runtime, stack: contextlib.ExitStack) -> Path | None:
    """The trainer's state for a policy, as long as the stack is open; None if there is none."""
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


def drop(policy: Policy) -> None:
    """Remove the trainer's state that was kept with a policy: later ones are there. Its model folder stays."""
    fs, path = files.opened(f"{policy.uri}/{TRAINER}")

    def remove() -> None:
        if fs.exists(f"{path}/{LAST}"):
            fs.rm_file(f"{path}/{LAST}")  # first: the rest is then no state any more
        if fs.exists(path):
            fs.rm(path, recursive=True)

    telemetry.attempt("the removal of an old state of the trainer", remove, last=True)
