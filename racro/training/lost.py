"""A lost trainer, as an error that another attempt may get past. Torch-free."""


class TrainerLost(RuntimeError):
    """A process of the trainer has ended."""
