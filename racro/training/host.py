"""What one process of a training keeps: its trainer, and the name of the policy that this holds.

Each command names the policy that it expects, so that nobody trains or saves another one than he thinks. After `rest`
nothing of the trainer is in memory. Used by `racro.training.service` in the run's own process, and by
`racro.training.rank` in each of several.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from racro.training.earlier import Earlier
from racro.training.failures import TrainerMemory
from racro.training.planning import Plan
from racro.training.sharding import Spread
from racro.training.trainer import Trainer, Training


@contextlib.contextmanager
def _memory() -> Iterator[None]:
    """Raises TrainerMemory where a GPU's memory is full.

    Without a cause: its frames would hold the tensors, and other processes do not know torch's exception.
    """
    try:
        yield
        return
    except torch.OutOfMemoryError as error:
        said = str(error).splitlines()[0][:200]
    raise TrainerMemory(
        f"the trainer is out of memory ({said}); lower runtime.trainer.tokens, or divide the model among more GPUs "
        "(runtime.trainer.gpus, shard: fsdp)"
    )


class Host:
    """At most one trainer, and what it holds."""

    def __init__(self) -> None:
        self.trainer: Trainer | None = None
        self.policy: str | None = None
        self.earlier: Earlier | None = None
        """The policy before the last update, if it was to be kept. In main memory, where it stays during a rest."""

    def begin(self, training: Training, start: Path | None, policy: str) -> dict[str, Spread]:
        """Build the trainer that goes on from `start`, the state of `policy`; None: the initial policy."""
        self.rest()
        with _memory():
            self.trainer, self.policy = Trainer(training, start), policy
        return self.trainer.spread()

    def update(
        self,
        expected: str,
        becomes: str,
        work: Plan,
        images_base: str,
        step: int,
        keep: bool,
        progress: Callable[[int, int], None],
    ) -> dict[str, float]:
        """See `Trainer.update`. `expected`: the policy before, `becomes`: after it. A failure empties this host.

        `keep`: its weights before the update, for the comparison with captions of it that come later.
        """
        trainer = self._holding(expected)
        earlier, self.policy, self.earlier = self.earlier, None, None
        with _memory():
            kept = trainer.earlier(expected) if keep else None
            writer = earlier if earlier and earlier.policy == work.writer else None
            metrics = trainer.update(work, images_base, step, progress, writer)
        self.policy, self.earlier = becomes, kept
        return metrics

    def export(self, expected: str, out: Path) -> None:
        """Write the policy as a model folder."""
        with _memory():
            self._holding(expected).export(out)

    def save(self, expected: str, folder: Path) -> None:
        """Write the state."""
        with _memory():
            self._holding(expected).save(folder)

    def rest(self) -> None:
        """Free all memory that the trainer had."""
        self.trainer = self.policy = None
        # Trainer, model and optimizer hold each other in cycles; a colocated engine that wakes needs their memory.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _holding(self, expected: str) -> Trainer:
        if self.trainer is None or self.policy != expected:
            held = self.policy[:12] if self.policy else "nothing"
            raise RuntimeError(f"the trainer holds {held}, not policy {expected[:12]}")
        return self.trainer
