"""Do engine and trainer see the same prompts and compute the same log-probs? Checked once, before the first iteration.

Compares prompt ids and log-probs of a few sampled captions, from the engine and from a plain forward pass of the
trainer's model. A difference in tokenizer, image size, positions (M-RoPE), precision or weights shows here instead of
after hours of training. `racro.training.replay` compares log-probs again in each iteration. Called by the stage parity.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from racro.config import Captioner, RolloutSettings
from racro.engines.protocol import Engine
from racro.models.encoding import Inputs, extended
from racro.models.folders import load_captioner, load_processor, torch_device
from racro.models.vision_tokens import vision_token_ids
from racro.rollouts.captioner import caption, in_order
from racro.schema import Problem
from racro.schema import Rollout as RolloutRow
from racro.training.output_layer import refusal
from racro.training.prompts import PromptEncoder, first_difference, prompt_ids

FLOAT32_GAP = 1e-4
"""Largest mean gap in float32, in nats, whatever the recipe says: rounding costs 1e-5, and wrong positions in a small
image may cost only 1e-3."""


class ParityBroken(RuntimeError):
    """Engine and trainer disagree about a prompt or about log-probs."""


@dataclass(frozen=True)
class Parity:
    """What was compared, and how large the differences were."""

    captions: int
    tokens: int
    gap_mean: float
    """Mean |log-prob difference| per token, in nats."""
    gap_max: float


def check(
    problems: Sequence[Problem],
    images_base: str,
    policy: str,
    folder: Path,
    engine: Engine,
    captioner: Captioner,
    rollout: RolloutSettings,
    max_gap: float,
    seed: int,
    device: str,
    deadline: float,
) -> Parity:
    """Sample two captions per problem and compare. `folder` holds the policy's model. Raises ParityBroken.

    Problems that the engine refuses are left out.
    """
    plain = rollout.model_copy(update={"group_size": 2, "top_p": 1.0})  # the trainer has no nucleus sampling
    refusals: list[str] = []
    made = caption(
        problems,
        images_base,
        policy,
        engine,
        plain,
        seed,
        -1,
        deadline,
        refused=lambda problem, reason: refusals.append(f"problem {problem.uid!r} is refused: {reason}"),
    )
    rows = in_order(list(made), problems)
    engine.sleep()  # the model may need the memory of its GPU
    try:
        gaps = _gaps(rows, problems, images_base, folder, engine, captioner, rollout, device, max_gap)
    finally:
        _free()
    if not gaps:
        why = refusals[0] if refusals else "raise runtime.request_deadline"
        raise ParityBroken(f"the engine generated no token of any caption within the time limit; {why}")
    gap = torch.cat(gaps)
    if captioner.dtype == "float32":
        max_gap = min(max_gap, FLOAT32_GAP)
    if not gap.mean() <= max_gap:
        raise ParityBroken(
            f"{captioner.model}: engine ({captioner.engine.type}) and trainer see the same prompts, but their "
            f"log-probs differ by {gap.mean():.3g} per token (largest: {gap.max():.3g}; allowed: {max_gap:.3g}): "
            "positions, pixels, precision or weights differ"
        )
    return Parity(len(rows), len(gap), float(gap.mean()), float(gap.max()))


def _gaps(
    rows: Sequence[RolloutRow],
    problems: Sequence[Problem],
    images_base: str,
    folder: Path,
    engine: Engine,
    captioner: Captioner,
    rollout: RolloutSettings,
    device: str,
    max_gap: float,
) -> list[torch.Tensor]:
    """Of each caption: |log-prob difference| (T,) between the trainer's model and the engine. Raises ParityBroken."""
    from racro.training.trl_without_vllm import add_fused_lm_head

    processor = load_processor(folder, captioner.pixels)
    model = load_captioner(folder, captioner.dtype, torch_device(device))
    encoder = PromptEncoder(processor, model, images_base, captioner.template_kwargs)
    banned = vision_token_ids(model.config, processor.tokenizer)
    by_uid = {problem.uid: problem for problem in problems}
    gaps: list[torch.Tensor] = []
    add_fused_lm_head(model, temperature=rollout.temperature)
    for row in rows:
        inputs = encoder.encode([by_uid[row.uid]])
        if difference := first_difference(prompt_ids(inputs)[0], row.prompt_ids):
            raise ParityBroken(
                f"engine ({captioner.engine.type}) and trainer encode problem {row.uid!r} differently: "
                f"{difference}; they must load the same tokenizer and processor files, with the same image sizes"
            )
        if row.completion_ids:
            if not gaps and not head_gap(model, inputs, row, rollout.temperature) <= FLOAT32_GAP + max_gap:
                raise ParityBroken(refusal(captioner.model, model.config.model_type))
            ours = trainer_logprobs(model, inputs, row, rollout.temperature, banned)
            gaps.append((ours - torch.tensor(row.logprobs)).abs())
    return gaps


def _free() -> None:
    """Give back the model's memory: the engine needs it when it wakes up."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@torch.inference_mode()
def trainer_logprobs(
    model: Any, inputs: Inputs, row: RolloutRow, temperature: float, banned: Sequence[int]
) -> torch.Tensor:
    """Log-probs (T,) of the caption's tokens among those that engines sample, positions left to the model.

    `banned`: ids that engines never sample.
    """
    moved, kept = _joined(model, inputs, row), len(row.completion_ids)
    # Counted from the end: not every model keeps as few logits as it is asked to.
    logits = model(**moved, use_cache=False, logits_to_keep=kept + 1).logits[0, -kept - 1 : -1].float()
    logits = logits.index_fill(-1, torch.tensor(banned, dtype=torch.long, device=logits.device), -torch.inf)
    scaled = (logits / temperature).log_softmax(-1)
    return scaled.gather(1, moved["input_ids"][0, -kept:, None])[:, 0].cpu()


@torch.inference_mode()
def head_gap(model: Any, inputs: Inputs, row: RolloutRow, temperature: float) -> float:
    """Mean |difference| of the caption's log-probs by the model's own forward and by TRL's, which makes no logits.

    A family may leave out in its forward what its configuration says of the output layer, as a scale. Infinite where
    TRL's does not know the family.
    """
    moved, kept = _joined(model, inputs, row), len(row.completion_ids)
    tokens = moved["input_ids"][0, -kept:]
    logits = model(**moved, use_cache=False, logits_to_keep=kept + 1).logits[0, -kept - 1 : -1].float()
    plain = (logits / temperature).log_softmax(-1).gather(1, tokens[:, None])[:, 0]
    labels = torch.full_like(moved["input_ids"], -100)
    labels[0, -kept - 1 : -1] = tokens
    try:
        fused = model(**moved, shift_labels=labels, fused_lm_head=True).log_probs[0, -kept - 1 : -1]
    except (AttributeError, TypeError):  # what is inside the model gives no hidden states
        return math.inf
    return float((plain - fused.float()).abs().mean())


def _joined(model: Any, inputs: Inputs, row: RolloutRow) -> Inputs:
    """Inputs of one prompt with its caption, on the model's device."""
    ids = torch.cat([inputs["input_ids"], torch.tensor([row.completion_ids])], dim=1)
    prompt = torch.arange(ids.shape[1]) < inputs["input_ids"].shape[1]
    joined = extended(inputs, ids, torch.ones_like(ids), prompt[None])
    return {name: value.to(model.device) for name, value in joined.items()}
