"""A model's pass over a bin: log-probs, entropies, and the share of tokens that engines never sample.

First the inputs on the CPU (`BinInputs`), in the way of the engine (`racro.models.encoding`), whose prompt ids they are
compared with; then the forward (`scored`). Either the captions of a row share their prompt (`racro.training.grouped`),
or each caption has a row to itself. Called by `racro.training.replay`.

Shapes: N tokens of the bin's captions, one caption after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from racro.models import attention, parts_attention
from racro.models.encoding import Inputs, positions
from racro.training.banned import BannedShare
from racro.training.bins import Bin, Lengths, Row
from racro.training.grouped import Packed, block_mask, pack, separate
from racro.training.planning import BadRollouts, Group, Plan
from racro.training.prompts import PromptEncoder, first_difference, prompt_ids


@dataclass(frozen=True)
class Prepared:
    """A bin as a model takes it, on the CPU."""

    packed: Packed
    captions: tuple[int, ...]
    """Numbers of its captions, counted through all groups of the plan."""
    lengths: list[int]
    """Their numbers of tokens."""
    pixel_bytes: int
    """Size of its images as the model takes them."""
    counts: bool = True
    """False if it only keeps step with other processes."""


@dataclass(frozen=True)
class Scored:
    """What a forward says of a bin."""

    logprobs: torch.Tensor
    """(N,)"""
    entropy: torch.Tensor | None
    """(N,); None where the model does not give it."""
    hidden: torch.Tensor
    """(N, H): the states that predict."""
    tokens: torch.Tensor
    """(N,): what they predict."""
    experts: torch.Tensor | None
    """The auxiliary loss of experts, a number; None if it was not asked for."""

    def log_allowed(self, share: BannedShare) -> torch.Tensor:
        """Log (N,) of the share of the tokens that engines sample from."""
        return share.log_allowed(self.hidden, self.tokens, self.logprobs)


class BinInputs:
    """Makes the inputs of bins."""

    def __init__(self, work: Plan, encoder: PromptEncoder, model: Any) -> None:
        """`model`: without wrappers of PEFT or accelerate."""
        self.work, self.encoder, self.model = work, encoder, model
        self.shared = True
        """Do the captions of a row share their prompt? Otherwise each row has one caption."""

    def lengths(self) -> list[Lengths]:
        """Numbers of tokens of each group."""
        return [
            Lengths(len(group.rollouts[0].prompt_ids), tuple(len(rollout.completion_ids) for rollout in group.rollouts))
            for group in self.work.groups
        ]

    def prepare(self, what: Bin, stand_in: Row) -> Prepared:
        """The inputs of a bin; of `stand_in` for a bin without rows.

        Raises BadRollouts where the trainer's ids of a prompt differ from the engine's, BadImage.
        """
        rows = what.rows or (stand_in,)
        prompts = self.prompts([row.group for row in rows])
        return Prepared(
            self.packed(prompts, rows, self.shared),
            tuple(self.work.starts[row.group] + caption for row in rows for caption in row.captions),
            [len(caption) for row in rows for caption in self.captions(row)],
            sum(value.nbytes for value in prompts.values() if value.is_floating_point()),
            counts=bool(what.rows),
        )

    def prompts(self, numbers: list[int]) -> Inputs:
        """Encoded prompts of groups, which must have the very ids that the engine saw. Raises BadRollouts, BadImage."""
        groups = [self.work.groups[number] for number in numbers]
        prompts = self.encoder.encode([group.problem for group in groups])
        check_prompts(prompts, groups)
        return prompts

    def packed(self, prompts: Inputs, rows: tuple[Row, ...], shared: bool) -> Packed:
        """Prompts, one for each row, and the rows' captions."""
        captions = [self.captions(row) for row in rows]
        if shared:
            return pack(prompts, positions(self.model, prompts), captions)
        return separate(prompts, [caption for own in captions for caption in own])

    def captions(self, row: Row) -> list[torch.Tensor]:
        """Token ids of a row's captions."""
        return [torch.tensor(self.work.groups[row.group].rollouts[i].completion_ids) for i in row.captions]


def scored(model: Any, core: Any, packed: Packed, device: torch.device, experts: bool = False) -> Scored:
    """The forward. `model` may be wrapped, `core` is what is inside. `experts`: their auxiliary loss too."""
    inputs: dict[str, Any] = {name: value.to(device) for name, value in packed.inputs.items()}
    if packed.segments is not None and attention.is_flex(core):
        inputs["attention_mask"] = block_mask(packed.segments.to(device))
    elif packed.segments is not None:
        parts_attention.mark(inputs["attention_mask"], packed.segments)
    if experts:
        inputs["output_router_logits"] = True
    tokens = packed.tokens.to(device)
    with _predicting(core, packed.places.to(device)) as states:
        output = model(**inputs, shift_labels=tokens[None], fused_lm_head=True)
    entropy = None if output.entropy is None else output.entropy[0]
    return Scored(output.log_probs[0], entropy, states[0][0], tokens, output.aux_loss if experts else None)


@contextmanager
def _predicting(core: Any, places: torch.Tensor) -> Iterator[list[torch.Tensor]]:
    """Have the output layer see only the states at `places`, as (1, N, H): over a vocabulary, prompts cost most."""
    states: list[torch.Tensor] = []

    def chosen(module: Any, arguments: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state.flatten(0, 1)[places][None]
        states.append(output.last_hidden_state)
        return output

    hook = core.base_model.register_forward_hook(chosen)
    try:
        yield states
    finally:
        hook.remove()


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
