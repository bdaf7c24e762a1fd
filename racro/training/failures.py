"""How an update fails, in words that other processes understand; see `racro.training.divergence` too. Torch-free."""

from __future__ import annotations

import traceback

from racro.errors import BadInput


class TrainerLost(RuntimeError):
    """A process of the trainer has ended. Another attempt may succeed."""


class TrainerMemory(BadInput):
    """The trainer needs more memory than there is."""


class LogprobMismatch(RuntimeError):
    """Engine and trainer disagree on the probability of the same tokens, so training would be wrong."""


def let_go(error: BaseException) -> None:
    """Let go of what the frames of an error hold: who handles it, or tries again, would keep models and tensors."""
    found, chain = set[int](), [error]
    for one in chain:  # grows while it is walked through
        found.add(id(one))
        traceback.clear_frames(one.__traceback__)
        chain += [more for more in (one.__cause__, one.__context__) if more is not None and id(more) not in found]
