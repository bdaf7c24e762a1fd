"""The state of a batch that is being decoded: its KV cache, its masks, and what has been sampled so far.

Not a model and not a sampler; used by `racro.engines.local.transformers`.

The n samples of a prompt decode as n queries of one row. They share the keys and values of the prompt; of the rest each
sees its own tokens only, by the mask. Repeating the cache n times instead makes every step read and copy n prompts: a
third of the decoding speed on a CPU at n = 8, and n times the memory. The last few samples get separate rows.

Only plain attention allows this. Where a layer has a sliding window or a recurrent state, which one sample would change
for the others, each sample has a row from the start.

Shapes: R rows (at first the B prompts), Q queries per row (at first the n samples), C cached columns, N = B x n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

ROOM = 32
"""Columns that a layer's cache has room for beyond those in use, when it is copied."""


def shareable(cache: Any) -> bool:
    """True if queries of one row can be kept apart by a mask: every layer holds keys and values of all tokens."""
    return all(type(layer) is DynamicLayer for layer in cache.layers)


class RoomyLayer(DynamicLayer):
    """A layer's cache with room behind it: a step writes its own columns, where transformers' copies all of them."""

    def __init__(self, layer: DynamicLayer) -> None:
        """The cache of a layer after the prefill."""
        super().__init__()
        self.keys, self.values, self.is_initialized = layer.keys, layer.values, True
        self.dtype, self.device = layer.dtype, layer.device
        self.rooms = (self.keys, self.values)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (R, heads, Q, D); returns all, (R, heads, C, D)."""
        appended = map(_append, self.rooms, (self.keys, self.values), (key_states, value_states))
        self.rooms, (self.keys, self.values) = zip(*appended, strict=True)
        return self.keys, self.values


def _append(room: torch.Tensor, held: torch.Tensor, new: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`held` with `new` behind it, in `room` if it begins with `held` and is large enough. Returns room and both."""
    before = held.shape[-2]
    after = before + new.shape[-2]
    if room.data_ptr() != held.data_ptr() or room.shape[-2] < after:  # reordered since, or full
        room = held.new_empty(*held.shape[:-2], after + ROOM, held.shape[-1])
        room[..., :before, :] = held
    room[..., before:after, :] = new
    return room, room[..., :after, :]


class Batch:
    """Rows, their cache, and which of the N completions each (row, query) is."""

    def __init__(self, cache: Any, mask: torch.Tensor, position_ids: torch.Tensor, n: int) -> None:
        """After the prefill: `mask` (B, L) of bool, `position_ids` (B, L), or (3, B, L) with M-RoPE."""
        if n > 1 and not shareable(cache):
            copies = torch.arange(len(mask), device=mask.device).repeat_interleave(n)
            cache.reorder_cache(copies)
            mask, position_ids, n = mask[copies], position_ids[..., copies, :], 1
        rows, self.prefix = mask.shape
        cache.layers[:] = [RoomyLayer(layer) if type(layer) is DynamicLayer else layer for layer in cache.layers]
        self.cache = cache
        self.mask = mask[:, None].expand(-1, n, -1)  # (R, Q, C)
        self.planes = position_ids.shape[:-2]
        # An image advances the position by less than its tokens, so the next position is not the length.
        self.position = position_ids.reshape(-1, *mask.shape).amax((0, 2))[:, None].expand(-1, n)  # (R, Q), the last
        self.index = torch.arange(rows * n, device=mask.device).view(rows, n)

    @property
    def completions(self) -> torch.Tensor:
        """Number of the completion, for each of the R x Q queries."""
        return self.index.flatten()

    def feed(self, tokens: torch.Tensor) -> dict[str, Any]:
        """Inputs of the model for the next token (R x Q,) of every query."""
        rows, queries = self.index.shape
        own = torch.eye(queries, dtype=torch.bool, device=tokens.device)
        self.mask = torch.cat([self.mask, own.expand(rows, -1, -1)], 2)
        self.position = self.position + 1
        return {
            "input_ids": tokens.view(rows, queries),
            # With one query per row the model makes its own mask, sliding windows included.
            "attention_mask": self.mask[:, 0] if queries == 1 else self.mask[:, None],
            "position_ids": self.position.expand(*self.planes, -1, -1),
            "past_key_values": self.cache,
        }

    def crowded(self, left: int) -> bool:
        """Is it time to drop the finished? Every removal copies the cache, and a row of one's own costs a prompt."""
        return left <= len(self.completions) // max(2, self.index.shape[1])

    def keep(self, alive: torch.Tensor) -> None:
        """Continue with these of the R x Q queries only, each in a separate row."""
        row, query = alive.view(self.index.shape).nonzero(as_tuple=True)
        if self.index.shape[1] == 1:
            self.cache.reorder_cache(row)
            self.mask = self.mask[row]
        else:
            own = torch.arange(self.prefix, self.mask.shape[2], self.index.shape[1], device=row.device) + query[:, None]
            columns = torch.cat([torch.arange(self.prefix, device=row.device).expand(len(row), -1), own], 1)
            for layer in self.cache.layers:
                layer.keys = layer.keys.transpose(1, 2)[row[:, None], columns].transpose(1, 2)
                layer.values = layer.values.transpose(1, 2)[row[:, None], columns].transpose(1, 2)
            self.mask = self.mask[row, query].gather(1, columns)[:, None]
        self.position, self.index = self.position[row, query][:, None], self.index[row, query][:, None]


@dataclass
class Forced:
    """The tokens that a batch is to score."""

    ids: torch.Tensor
    """(B, F) ids, padded on the right."""
    lengths: torch.Tensor
    """(B,) numbers of tokens."""
    longest: int


class Record:
    """What was sampled, by completion, while completions leave the batch."""

    def __init__(self, count: int) -> None:
        self.ids: list[list[int]] = [[] for _ in range(count)]
        self.logprobs: list[list[float]] = [[] for _ in range(count)]
        self.steps: list[tuple[torch.Tensor, torch.Tensor]] = []  # on the device, to be fetched at once

    def add(self, tokens: torch.Tensor, logprobs: torch.Tensor) -> None:
        """One step of everything in the batch."""
        self.steps.append((tokens, logprobs))

    def close(self, completions: torch.Tensor) -> None:
        """Write down the steps since the last call, which `completions` took. Raises FloatingPointError."""
        tokens, logprobs = (torch.stack(tensors, 1) for tensors in zip(*self.steps, strict=True))
        if not torch.isfinite(logprobs).all():
            raise FloatingPointError("the model's probabilities are not numbers: its weights have diverged")
        for number, ids, values in zip(completions.tolist(), tokens.tolist(), logprobs.tolist(), strict=True):
            self.ids[number] += ids
            self.logprobs[number] += values
        self.steps = []

    def so_far(self, completions: torch.Tensor, lengths: list[int]) -> list[list[int]]:
        """Ids of all completions up to now, and of the ended ones (see `cut`) those up to their end."""
        ids = [list(own) for own in self.ids]
        steps = torch.stack([tokens for tokens, _ in self.steps], 1).tolist() if self.steps else []
        for number, own in zip(completions.tolist(), steps, strict=False):
            ids[number] += own
        return [own[: length or None] for own, length in zip(ids, lengths, strict=True)]

    def cut(self, lengths: list[int]) -> tuple[list[list[int]], list[list[float]]]:
        """Ids and log-probs up to each length; 0 means all. Ended completions decode on until they leave the batch."""
        return (
            [ids[: length or None] for ids, length in zip(self.ids, lengths, strict=True)],
            [values[: length or None] for values, length in zip(self.logprobs, lengths, strict=True)],
        )
