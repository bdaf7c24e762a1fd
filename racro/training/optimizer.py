"""AdamW in three ways: torch's, with moments in 8 bits (torchao), and with moments in main memory.

`update.optimizer` chooses how moments are kept, which changes the result; `runtime.trainer.optimizer` where, which does
not. What this machine cannot do is refused by `racro.models.devices`. Called by the update.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch.optim.adamw import adamw

from racro.config import TrainerPlacement, UpdateSettings

NAMES = {"adamw": "adamw_torch", "adamw_8bit": "adamw_torch_8bit"}
"""Transformers' names of the values of `update.optimizer`."""


def place(trainer: Any, config: UpdateSettings, placement: TrainerPlacement) -> None:
    """Have a trainer keep the moments where the runtime says. Before it trains."""
    if placement.optimizer == "offload":
        args = trainer.args
        betas = args.adam_beta1, args.adam_beta2
        kwargs = {"lr": config.learning_rate, "betas": betas, "eps": args.adam_epsilon}
        trainer.optimizer_cls_and_kwargs = (OffloadedAdamW, kwargs)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):  # torchao's, which compiles its step
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


class OffloadedAdamW(torch.optim.AdamW):
    """AdamW whose moments are in main memory and come to the device for their parameter's step, one after the other.

    Steps and state are torch's, so that each can go on with the state of the other.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step. `closure` is not called: the gradients are there."""
        for group in self.param_groups:
            for value in group["params"]:
                if value.grad is not None:
                    self._step(group, value, value.grad)

    def _step(self, group: dict[str, Any], value: torch.Tensor, gradient: torch.Tensor) -> None:
        kept = self.state[value]
        if not kept:
            kept["step"] = torch.tensor(0.0)
            kept["exp_avg"], kept["exp_avg_sq"] = (_host(torch.zeros_like(value, device="cpu")) for _ in range(2))
        moments = [kept[name].to(value.device, non_blocking=True) for name in ("exp_avg", "exp_avg_sq")]
        adamw(
            [value],
            [gradient],
            moments[:1],
            moments[1:],
            [],
            [kept["step"]],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
        for name, moment in zip(("exp_avg", "exp_avg_sq"), moments, strict=True):
            if moment is not kept[name]:
                kept[name].copy_(moment)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, which would move the moments to the parameters' device."""
        super().load_state_dict({**state_dict, "state": {}})
        saved = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        values = chain.from_iterable(group["params"] for group in self.param_groups)
        for number, value in zip(saved, values, strict=True):
            if number in state_dict["state"]:
                self.state[value] = {name: _host(kept) for name, kept in state_dict["state"][number].items()}


def _host(tensor: torch.Tensor) -> torch.Tensor:
    """In main memory that a GPU can read at full speed, if there is one."""
    return tensor.cpu().pin_memory() if torch.cuda.is_available() and tensor.ndim else tensor.cpu()
