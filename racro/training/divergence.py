"""A training that has diverged: what is no longer a number, at which step, and what to lower.

Torch-free, so that a sweep can tell a diverged child from a failed one. Raised by `racro.training.trainer`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from racro.errors import BadInput

WATCHED = {"loss": "the loss", "grad_norm": "the gradient norm", "kl": "the KL to the initial policy"}
"""Names in the trainer's log of each step, and what they are called."""


class Diverged(BadInput):
    """A number of the update is not finite. Nothing was written."""

    def __init__(self, what: str, step: int, total: int, learning_rate: float) -> None:
        self.facts = what, step, total, learning_rate
        super().__init__(
            f"the update has diverged: {what} at optimizer step {step} of {total}; nothing was written. Lower "
            f"update.learning_rate (now {learning_rate:g}), update.beta, update.weight_decay or update.max_grad_norm"
        )

    def __reduce__(self) -> tuple[type[Diverged], tuple[str, int, int, float]]:
        """For other processes: exceptions are made again from their arguments."""
        return type(self), self.facts


def not_finite(logged: Mapping[str, float]) -> str | None:
    """The first of the watched numbers in a step's log that is not finite, in words."""
    for name, called in WATCHED.items():
        value = logged.get(name)
        if value is not None and not math.isfinite(value):
            return f"{called} is {value:g}"
    return None
