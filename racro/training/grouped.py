"""Log-probs of captions that share their prompt: one row per group, so that prompt and images go through a model once.

A row is [prompt | c1 without its last token | the prompt's last token | c2 without its last token | ...]. The prompt's
last token opens every caption (the first caption's is the prompt's own), so each position predicts one token. A caption
sees the prompt and itself; its positions go on from the prompt's last one, as if it stood alone. Which models this does
not fit is not known by name: `racro.training.replay` compares it with a plain row for each caption.

Shapes: g rows, L tokens of the longest prompt (padded left), W columns of the longest row, N tokens of all captions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from torch.nn.utils.rnn import pad_sequence

from racro.models.encoding import Inputs, extended

PADDING, PROMPT = -1, 0
"""Segments of a row besides the captions, which count from 1."""


@dataclass(frozen=True)
class Packed:
    """Inputs of a forward over g rows, and where the tokens of the captions are predicted."""

    inputs: Inputs
    """Rows are padded right."""
    places: torch.Tensor
    """(N,): the positions that predict, caption after caption, counted through the rows: row * W + column."""
    tokens: torch.Tensor
    """(N,): what each of them predicts."""
    segments: torch.Tensor | None = None
    """(g, W): which part of its row each column is, where captions share a prompt; see `visible`."""


def pack(prompts: Inputs, positions: torch.Tensor, captions: Sequence[Sequence[torch.Tensor]]) -> Packed:
    """Lay out captions that share their prompts.

    prompts: inputs of g prompts, padded left. positions: theirs, (g, L) or (3, g, L). captions: of each row, the token
    ids of at least one caption, none of them empty. The inputs have `position_ids` and a mask (g, 1, W, W) that is true
    where a position may look.
    """
    real = prompts["attention_mask"].bool()
    ids, places, segments = [], [], []
    for number, own in enumerate(captions):
        prompt, place = prompts["input_ids"][number][real[number]], positions[..., number, :][..., real[number]]
        lengths = torch.tensor([len(caption) for caption in own])
        starts = lengths.cumsum(0) - lengths
        tokens = torch.cat(list(own)).roll(1)
        tokens[starts] = prompt[-1]
        column = torch.arange(len(tokens)) - starts.repeat_interleave(lengths)
        following = (place.max() + column).expand(*place.shape[:-1], -1)
        ids.append(torch.cat([prompt[:-1], tokens]))
        places.append(torch.cat([place[..., :-1], torch.where(column == 0, place[..., -1:], following)], -1))
        segments.append(
            torch.tensor([PROMPT, *range(1, len(own) + 1)]).repeat_interleave(
                torch.cat([lengths.new_tensor([len(prompt) - 1]), lengths])
            )
        )
    segment = pad_sequence(segments, batch_first=True, padding_value=PADDING)  # (g, W)
    input_ids = pad_sequence(ids, batch_first=True)
    opened = (segment == 1) & (segment.roll(1, -1) != 1)  # the prompt's last token
    opened[:, 0] = segment[:, 0] == 1
    known = extended(prompts, input_ids, (segment != PADDING).long(), (segment == PROMPT) | opened)
    place = pad_sequence([value.movedim(-1, 0) for value in places], batch_first=True)  # (g, W) or (g, W, 3)
    inputs = known | {
        "attention_mask": visible(segment)[:, None],
        "position_ids": place.movedim(-1, 0) if place.dim() == 3 else place,
    }
    return Packed(inputs, (segment > PROMPT).flatten().nonzero()[:, 0], _flat(captions), segment)


def separate(prompts: Inputs, captions: Sequence[torch.Tensor]) -> Packed:
    """Lay out one caption for each of g prompts; mask and positions are left to the model."""
    real = prompts["attention_mask"].bool()
    starts = real.sum(-1)
    ids = [
        torch.cat([row[mask], caption[:-1]])
        for row, mask, caption in zip(prompts["input_ids"], real, captions, strict=True)
    ]
    input_ids = pad_sequence(ids, batch_first=True)
    columns = torch.arange(input_ids.shape[1])
    mask = columns < torch.tensor([len(row) for row in ids])[:, None]
    predicting = mask & (columns >= starts[:, None] - 1)
    inputs = extended(prompts, input_ids, mask.long(), columns < starts[:, None])
    return Packed(inputs, predicting.flatten().nonzero()[:, 0], _flat([captions]))


def _flat(captions: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
    return torch.cat([caption for own in captions for caption in own])


def visible(segment: torch.Tensor) -> torch.Tensor:
    """Which column (last) each column may look at: (g, W, W), of segments (g, W). Padding looks at itself."""
    columns = segment.shape[1]
    earlier = torch.ones(columns, columns, dtype=torch.bool).tril()
    shared = (segment == PROMPT)[:, None, :] | (segment[:, :, None] == segment[:, None, :])
    return (earlier & shared & (segment != PADDING)[:, None, :]) | torch.eye(columns, dtype=torch.bool)


def block_mask(segment: torch.Tensor) -> BlockMask:
    """The same as `visible` for flex attention, which leaves out blocks that nothing looks at."""

    def sees(row: Any, head: Any, query: Any, key: Any) -> Any:
        of_key = segment[row, key]
        shared = (of_key == PROMPT) | (of_key == segment[row, query])
        return ((key <= query) & shared & (of_key != PADDING)) | (key == query)

    rows, columns = segment.shape
    return create_block_mask(
        sees, rows, None, columns, columns, device=str(segment.device), _compile=segment.device.type == "cuda"
    )
