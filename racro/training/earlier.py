"""The weights that a policy had before its last update, in main memory: captions that it wrote are compared with them.

With `rollout.lag` an update trains on captions of the policy before. The gate between engine and trainer must compare
log-probs of the weights that wrote. They are kept here from one update to the next, also while the trainer rests, and
cost 4 bytes of main memory for each trained weight. Used by `racro.training.host`, in each process for its part.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from racro.training.sharding import local, settle


class Earlier:
    """The trained weights of a policy, as far as they lie in this process."""

    def __init__(self, policy: str, model: Any) -> None:
        """Copy them. `policy`: its name."""
        self.policy = policy
        with torch.no_grad():
            self.values = [value.to("cpu", copy=True) for value in _trained(model)]

    @contextmanager
    def instead(self, model: Any) -> Iterator[None]:
        """The model with these weights, within the context; afterwards it has its own again, bit for bit."""
        self._exchange(model)
        try:
            yield
        finally:
            self._exchange(model)

    @torch.no_grad()
    def _exchange(self, model: Any) -> None:
        """One weight after the other, so that no third copy of the model is needed."""
        for own, other in zip(_trained(model), self.values, strict=True):
            waiting = own.to("cpu", copy=True)
            own.copy_(other)
            other.copy_(waiting)


def _trained(model: Any) -> list[torch.Tensor]:
    settle(model)
    return [local(value.detach()) for value in model.parameters() if value.requires_grad]
