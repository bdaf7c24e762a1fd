"""A trainer's pass over captions: log-probs, entropies, and the share of tokens that engines never sample.

Each caption with a prompt of its own, or the captions of a group with one prompt (`racro.training.grouped`). Prompts
are encoded here, from row numbers, in the way of the engine (`racro.models.encoding`), and their ids are compared with
the stored ones. Called by `racro.training.replay`.

Shapes: B rows of a pass, W columns of prompt and completion, T of the completion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from racro.models.encoding import Inputs, extended, positions
from racro.training.banned import BannedShare
from racro.training.grouped import pack
from racro.training.planning import BadRollouts, Group, Plan
from racro.training.prompts import PromptEncoder, first_difference, prompt_ids


@dataclass(frozen=True)
class Scored:
    """What a forward says of B captions, (B, T) each, padded right."""

    logprobs: torch.Tensor
    entropy: torch.Tensor | None
    """None where the model does not give it."""
    allowed: torch.Tensor | None
    """Log of the share of tokens that engines sample from; None in a pass with gradients."""
    experts: torch.Tensor | None = None
    """The auxiliary loss of experts, a number."""


@dataclass(frozen=True)
class Batch:
    """Captions of one pass."""

    rows: list[int]
    """Their numbers, counted over all groups."""
    ids: torch.Tensor
    """(B, W): prompt, padded left, and caption, padded right."""
    mask: torch.Tensor
    """(B, W): 0 for padding."""
    kept: int
    """T: so many of the last columns are the caption's."""


class CaptionPass:
    """Passes over the captions of a Plan, which are rows group after group."""

    def __init__(self, work: Plan, encoder: PromptEncoder) -> None:
        """Raises BadRollouts when the first prompt differs from the engine's."""
        self.work, self.encoder = work, encoder
        self.group_size = len(work.groups[0].rollouts)
        check_prompts(encoder.encode([work.groups[0].problem]), [work.groups[0]])

    def by_row(self, model: Any, share: BannedShare, batch: Batch, experts: bool = False) -> Scored:
        """Each caption with a prompt of its own. `experts`: their auxiliary loss too."""
        ids, kept = batch.ids, batch.kept
        inputs = self._encoded(batch)
        if experts:
            inputs["output_router_logits"] = True
        labels = ids.masked_fill(batch.mask == 0, -100)
        labels[:, :-kept] = -100
        output = model(**inputs, labels=labels, fused_lm_head=True)
        logprobs, tokens = output.log_probs[:, -kept:], ids[:, -kept:]
        return Scored(
            logprobs,
            None if output.entropy is None else output.entropy[:, -kept:],
            None if torch.is_grad_enabled() else share.log_allowed(share.states()[:, -kept - 1 : -1], tokens, logprobs),
            output.aux_loss if experts else None,
        )

    def by_group(self, model: Any, share: BannedShare, batch: Batch) -> Scored:
        """As `by_row`, with one pass over the prompt that consecutive rows share."""
        ids, kept = batch.ids, batch.kept
        numbers = [row // self.group_size for row in batch.rows]
        firsts = [i for i, number in enumerate(numbers) if i == 0 or number != numbers[i - 1]]
        groups = [self.work.groups[numbers[i]] for i in firsts]
        prompts = self.encoder.encode([group.problem for group in groups])
        check_prompts(prompts, groups)
        tokens, real = ids[:, -kept:].cpu(), batch.mask[:, -kept:].bool().cpu()
        captions = [
            [tokens[i][real[i]] for i in range(first, end)]
            for first, end in zip(firsts, [*firsts[1:], len(numbers)], strict=True)
        ]
        packed = pack(prompts, positions(share.model, prompts), captions)
        inputs = {name: value.to(ids.device) for name, value in packed.inputs.items()}
        labels = packed.labels.to(ids.device)
        output = model(**inputs, shift_labels=labels, fused_lm_head=True)
        logprobs = packed.unpacked(output.log_probs, kept)
        return Scored(
            logprobs,
            None if output.entropy is None else packed.unpacked(output.entropy, kept),
            None
            if torch.is_grad_enabled()
            else share.log_allowed(packed.unpacked(share.states(), kept), ids[:, -kept:], logprobs),
        )

    def _encoded(self, batch: Batch) -> dict[str, Any]:
        """A model's inputs for prompts and captions."""
        groups = [self.work.groups[row // self.group_size] for row in batch.rows]
        prompts = self.encoder.encode([group.problem for group in groups])
        check_prompts(prompts, groups)
        inputs = extended(prompts, batch.ids, batch.mask, batch.ids.shape[1] - batch.kept)
        return {name: value.to(batch.ids.device) for name, value in inputs.items()}


def check_prompts(prompts: Inputs, groups: list[Group]) -> None:
    """The trainer must make the very ids of each prompt that the engine saw; another tokenizer or image size does not.

    Raises BadRollouts that names the first difference.
    """
    for ours, group in zip(prompt_ids(prompts), groups, strict=True):
        if difference := first_difference(ours, group.rollouts[0].prompt_ids):
            raise BadRollouts(
                f"the trainer tokenises the prompt of {group.problem.uid!r} differently from the engine: "
                f"{difference}; check tokenizer, processor and image size"
            )
