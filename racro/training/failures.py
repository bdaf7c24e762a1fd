"""How an update fails, in words that other processes understand; see `racro.training.divergence` too. Torch-free."""

from racro.errors import BadInput


class TrainerLost(RuntimeError):
    """A process of the trainer has ended. Another attempt may succeed."""


class TrainerMemory(BadInput):
    """The trainer needs more memory than there is."""


class LogprobMismatch(RuntimeError):
    """Engine and trainer disagree on the probability of the same tokens, so training would be wrong."""
