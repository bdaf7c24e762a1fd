"""A batch's first forward, in which the tokens that all its prompts begin with are read once.

Prompts of one kind begin with the same instructions: of the embedded captioner's, two fifths. Their keys and values are
computed for one row and lent to all. Padding then stands behind them, where the mask hides it as well as in front.

Only where every layer keeps the keys and values of all tokens, and where it has been tried: on first use two of the
prompts are also read whole, and if the model's next token is another, it reads whole prompts from then on.

Shapes: B prompts, L columns of the batch, P tokens of the common beginning, V entries of the vocabulary. Called by
`racro.engines.local.transformers`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from racro.engines.local.decoding import shareable
from racro.models.encoding import Inputs

logger = logging.getLogger(__name__)

WORTH = 16
"""Tokens below which a beginning is read with each prompt: a forward has its price, whatever its length."""
NEAR = {torch.float32: 1e-3}
"""Total variation between two ways of computing a distribution that rounding explains, by the type of weights."""
NEAR_IN_HALF = 5e-2


class Read(NamedTuple):
    """What a first forward gives."""

    logits: torch.Tensor
    """(B, V) of the next token."""
    cache: Any
    """Keys and values of L columns."""
    mask: torch.Tensor
    """(B, L), of bool: which of them are tokens."""
    position_ids: torch.Tensor
    """(B, L), or (3, B, L) with M-RoPE."""


class Prefix:
    """Reads the prompts of one architecture, whatever its weights."""

    def __init__(self, vision_ids: torch.Tensor) -> None:
        """vision_ids: tokens that no common beginning may have, because an image stands for them."""
        self.vision_ids = vision_ids
        self.shares: bool | None = None
        """Can the model go on from a beginning that was read alone? None until it has been tried."""

    def read(self, model: Any, inputs: Inputs, two: Callable[[], Inputs]) -> Read:
        """The first forward of B prompts, padded left. `two`: inputs of the first and the last of them alone."""
        count = 0 if self.shares is False else self.common(inputs)
        if not count:
            return whole(model, inputs)
        if self.shares is None:
            self.shares = self._agrees(model, two())
            if not self.shares:
                return whole(model, inputs)
        return shared(model, inputs, count) or whole(model, inputs)

    def common(self, inputs: Inputs) -> int:
        """P: the number of tokens that all prompts begin with, and of which none is an image's; 0 if too few."""
        mask = inputs["attention_mask"].bool()
        if len(mask) < 2:
            return 0
        shortest = int(mask.sum(-1).min())
        begins = mask.int().argmax(-1)[:, None] + torch.arange(shortest - 1, device=mask.device)
        ids = inputs["input_ids"].gather(1, begins)  # (B, shortest - 1): a token must be left to go on with
        alike = (ids == ids[0]).all(0) & ~torch.isin(ids[0], self.vision_ids)
        count = int(alike.int().cumprod(0).sum())
        return count if count >= WORTH else 0

    def _agrees(self, model: Any, inputs: Inputs) -> bool:
        """Does the model say the same of two prompts, read in both ways?"""
        count = self.common(inputs)
        if not count or (found := shared(model, inputs, count)) is None:
            return False
        expected, made = (read.logits.float().softmax(-1) for read in (whole(model, inputs), found))
        apart = float((expected - made).abs().sum(-1).max()) / 2
        if not apart <= NEAR.get(model.dtype, NEAR_IN_HALF):  # false for NaN
            logger.warning(
                "%s reads whole prompts: with their common beginning read once, its next token's distribution is %.2g "
                "apart",
                type(model).__name__,
                apart,
            )
            return False
        return True


def whole(model: Any, inputs: Inputs) -> Read:
    """The forward of whole prompts."""
    made = model(**inputs, use_cache=True, logits_to_keep=1)
    return Read(made.logits[:, -1], made.past_key_values, inputs["attention_mask"].bool(), inputs["position_ids"])


def shared(model: Any, inputs: Inputs, count: int) -> Read | None:
    """The same with the first `count` tokens of all prompts read once; None if the model keeps less than these."""
    moved = _beginning_first(inputs, count)
    by_token = _by_token(inputs)
    beginning = {name: moved[name][..., :1, :count] for name in by_token}
    cache = model(**beginning, use_cache=True, logits_to_keep=1).past_key_values
    if not shareable(cache):
        return None
    rows = len(moved["input_ids"])
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1)
    rest = {name: moved[name][..., count:] for name in by_token - {"attention_mask"}}
    made = model(**moved | rest, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return Read(made.logits[:, -1], cache, moved["attention_mask"].bool(), moved["position_ids"])


def _beginning_first(inputs: Inputs, count: int) -> Inputs:
    """Columns reordered, so that each row begins with its first `count` tokens, and its padding stands behind them."""
    mask = inputs["attention_mask"]
    padding = mask.int().argmax(-1)[:, None]  # (B, 1)
    columns = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)
    behind = torch.where(columns < count + padding, columns - count, columns)
    places = torch.where(columns < count, columns + padding, behind)
    moved = {name: inputs[name].gather(-1, places.expand(inputs[name].shape)) for name in _by_token(inputs)}
    return inputs | moved


def _by_token(inputs: Inputs) -> set[str]:
    """Names of inputs with a number per token of each prompt; an image's are none."""
    return {name for name, value in inputs.items() if value.shape == inputs["input_ids"].shape} | {"position_ids"}
