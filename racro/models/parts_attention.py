"""sdpa for rows whose captions share a prompt, part by part: what no token may see is not computed either.

Given one mask over a row, sdpa computes all pairs of its tokens: for eight captions of 400 tokens behind a prompt of
1,200 some four times the pairs that the mask lets through. Here the prompt is computed by itself and each caption
against the prompt and itself, where that saves enough. Flex attention, which leaves out blocks by itself, needs none of
this. Called by `racro.models.attention` and `racro.training.passes`.

Shapes: g rows, W columns of the longest row, H heads of D numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

NAME = "racro_parts"
"""Among transformers' implementations of attention, and on a mask its parts."""
CELLS = 20_000
"""Pairs of tokens that a call of sdpa must save; of short rows one call costs more than all of their pairs."""


def register() -> None:
    """Have transformers know this attention; masks are sdpa's."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def mark(mask: torch.Tensor, segments: torch.Tensor) -> None:
    """Say on a mask (g, 1, W, W) which parts its rows have: `segments` (g, W), see `racro.training.grouped`."""
    lengths = [_lengths(row) for row in segments]
    if saved(lengths, segments.shape[1]) > CELLS * sum(map(len, lengths)):
        setattr(mask, NAME, lengths)


def saved(lengths: list[list[int]], columns: int) -> int:
    """Pairs of tokens that need not be computed. lengths: of the parts of each row, the prompt first."""
    needed = sum(own * (own + prompt) for prompt, *captions in lengths for own in captions)
    return len(lengths) * columns**2 - needed - sum(prompt**2 // 2 for prompt, *_ in lengths)


def _lengths(segment: torch.Tensor) -> list[int]:
    """Of the prompt and of each caption of a row; what is left is padding."""
    return (segment[segment >= 0]).bincount().tolist()


def attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any, **options: Any
) -> tuple[torch.Tensor, None]:
    """As transformers' sdpa, (g, H, W, D) -> (g, W, H, D); in parts if the mask says which. Padding gets zeros."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward as sdpa

    rows = getattr(attention_mask, NAME, None)
    if rows is None or "position_bias" in options:
        found: tuple[torch.Tensor, None] = sdpa(module, query, key, value, attention_mask, **options)
        return found
    import torch

    options.pop("is_causal", None)
    whole = []
    for number, (prompt, *captions) in enumerate(rows):
        q, k, v, mask = (tensor[number : number + 1] for tensor in (query, key, value, attention_mask))
        parts, start = [], prompt
        if prompt:
            own = slice(0, prompt)
            parts.append(sdpa(module, q[:, :, own], k[:, :, own], v[:, :, own], None, is_causal=True, **options)[0])
        for length in captions:
            own, start = slice(start, start + length), start + length
            keys, values = (torch.cat([one[:, :, :prompt], one[:, :, own]], 2) for one in (k, v))
            seen = torch.cat([mask[:, :, own, :prompt], mask[:, :, own, own]], -1)
            parts.append(sdpa(module, q[:, :, own], keys, values, seen, **options)[0])
        if padding := query.shape[2] - start:
            parts.append(q.new_zeros(1, padding, q.shape[1], v.shape[-1]))
        whole.append(torch.cat(parts, 1))
    return torch.cat(whole), None
