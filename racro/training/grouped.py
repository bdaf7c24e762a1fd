"""Log-probs of captions that share their prompt: one row per group, so that prompt and images go through a model once.

A row is [prompt | c1 without its last token | the prompt's last token | c2 without its last token | ...]. The prompt's
last token opens every caption (the first caption's is the prompt's own), so each position predicts one token. A caption
sees the prompt and itself; its positions go on from the prompt's last one, as if it stood alone. Which models this does
not fit is not known by name: `racro.training.replay` compares both ways on the longest group of an iteration.

Shapes: g groups, L tokens of the longest prompt (padded left), W columns of the longest row, T tokens of a caption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence

from racro.models.encoding import Inputs, extended

IGNORED = -100
"""Label of a position that predicts nothing."""
PADDING, PROMPT = -1, 0
"""Segments of a row besides the captions, which count from 1."""


@dataclass(frozen=True)
class Packed:
    """Inputs of a forward over g groups, and where each caption's log-probs are in its output."""

    inputs: Inputs
    """With `position_ids` and a mask (g, 1, W, W) that is true where a position may look."""
    labels: torch.Tensor
    """(g, W): the token that each position predicts, or IGNORED."""
    rows: torch.Tensor
    """(N,): the row of each caption, in order."""
    starts: torch.Tensor
    """(N,): the column of its first prediction."""
    lengths: torch.Tensor
    """(N,): its number of tokens."""

    def unpacked(self, values: torch.Tensor, width: int) -> torch.Tensor:
        """(g, W, ...) at the captions' positions, as (N, width, ...) padded right with 0."""
        steps = torch.arange(width, device=values.device)
        inside = steps < self.lengths.to(values.device)[:, None]
        columns = (self.starts.to(values.device)[:, None] + steps) * inside
        found = values[self.rows.to(values.device)[:, None], columns]
        return found.masked_fill(~inside.view(*inside.shape, *[1] * (found.dim() - 2)), 0)


def pack(prompts: Inputs, positions: torch.Tensor, captions: Sequence[Sequence[torch.Tensor]]) -> Packed:
    """Lay out groups.

    prompts: inputs of g prompts, padded left. positions: theirs, (g, L) or (3, g, L). captions: of each group, the
    token ids (T,).
    """
    width = prompts["input_ids"].shape[1]
    real = prompts["attention_mask"].bool()
    last = prompts["input_ids"][:, -1]
    ids, places, segments, labels = [], [], [], []
    rows, starts, lengths = [], [], []
    for number, group in enumerate(captions):
        opener = positions[..., number, -1]  # () or (3,)
        following = positions[..., number, :][..., real[number]].max() + 1
        own_ids = [prompts["input_ids"][number, :-1]]
        own_places = [positions[..., number, :-1]]
        own_segments = [torch.where(real[number, :-1], PROMPT, PADDING)]
        own_labels = [torch.full((width - 1,), IGNORED)]
        column = width - 1
        for sample, caption in enumerate(group):
            length = len(caption)
            rows.append(number)
            starts.append(column)
            lengths.append(length)
            if not length:  # it predicts nothing
                continue
            text = (following + torch.arange(length - 1)).expand(*opener.shape, length - 1)
            own_ids += [last[number : number + 1], caption[:-1]]
            own_places += [opener[..., None], text]
            own_segments.append(torch.full((length,), sample + 1))
            own_labels.append(caption)
            column += length
        ids.append(torch.cat(own_ids))
        places.append(torch.cat(own_places, -1).movedim(-1, 0))  # (W,) or (W, 3)
        segments.append(torch.cat(own_segments))
        labels.append(torch.cat(own_labels))
    segment = pad_sequence(segments, batch_first=True, padding_value=PADDING)  # (g, W)
    input_ids = pad_sequence(ids, batch_first=True)
    known = extended(prompts, input_ids, (segment != PADDING).long(), width)
    place = pad_sequence(places, batch_first=True)  # (g, W) or (g, W, 3)
    inputs = known | {
        "attention_mask": visible(segment)[:, None],
        "position_ids": place.movedim(-1, 0) if place.dim() == 3 else place,
    }
    return Packed(
        inputs,
        pad_sequence(labels, batch_first=True, padding_value=IGNORED),
        torch.tensor(rows),
        torch.tensor(starts),
        torch.tensor(lengths),
    )


def visible(segment: torch.Tensor) -> torch.Tensor:
    """Which column (last) each column may look at: (g, W, W), of segments (g, W). Padding looks at itself."""
    columns = segment.shape[1]
    earlier = torch.ones(columns, columns, dtype=torch.bool).tril()
    shared = (segment == PROMPT)[:, None, :] | (segment[:, :, None] == segment[:, None, :])
    return (earlier & shared & (segment != PADDING)[:, None, :]) | torch.eye(columns, dtype=torch.bool)
