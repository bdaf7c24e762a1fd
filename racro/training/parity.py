"""Do engine and trainer see the same prompts and compute the same log-probs? Checked once, before the first iteration.

Compares prompt ids and log-probs of a few sampled captions, from the engine and from a plain forward pass of the
trainer's model. A difference in tokenizer, image size, positions (M-RoPE), precision or weights shows here instead of
after hours of training. `racro.training.replay` compares log-probs again in each iteration. Called by the stage parity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from racro.config import Captioner, RolloutSettings
from racro.data.images import open_image
from racro.engines.protocol import Engine
from racro.models.folders import load_captioner, load_processor, torch_device
from racro.prompts import caption_messages
from racro.rollouts.captioner import caption, in_order
from racro.schema import Problem
from racro.schema import Rollout as RolloutRow

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
    processor = load_processor(folder)
    model = load_captioner(folder, captioner.dtype, torch_device(device))
    by_uid = {problem.uid: problem for problem in problems}
    gaps: list[torch.Tensor] = []
    for row in rows:
        inputs = trainer_inputs(processor, by_uid[row.uid], images_base)
        if difference := first_difference(inputs["input_ids"][0].tolist(), row.prompt_ids):
            raise ParityBroken(
                f"engine ({captioner.engine.type}) and trainer encode problem {row.uid!r} differently: "
                f"{difference}; they must load the same tokenizer and processor files, with the same image sizes"
            )
        if row.completion_ids:
            ours = trainer_logprobs(model, inputs, row, rollout.temperature)
            gaps.append((ours - torch.tensor(row.logprobs)).abs())
    if not gaps:
        why = refusals[0] if refusals else "raise runtime.request_deadline"
        raise ParityBroken(f"the engine generated no token of any caption within the time limit; {why}")
    gap = torch.cat(gaps)
    if captioner.dtype == "float32":
        max_gap = min(max_gap, FLOAT32_GAP)
    if not gap.mean() <= max_gap:
        raise ParityBroken(
            f"engine ({captioner.engine.type}) and trainer see the same prompts, but their log-probs differ by "
            f"{gap.mean():.3g} per token (largest: {gap.max():.3g}; allowed: {max_gap:.3g}): "
            "positions, pixels, precision or weights differ"
        )
    return Parity(len(rows), len(gap), float(gap.mean()), float(gap.max()))


def trainer_inputs(processor: Any, problem: Problem, images_base: str) -> dict[str, Any]:
    """The trainer's encoding of a problem's prompt, as a batch of one."""
    images = [open_image(ref, images_base) for ref in problem.images]
    messages = caption_messages(problem.question, len(images))
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return dict(processor(images=images or None, text=[text], add_special_tokens=False, return_tensors="pt"))


def first_difference(ours: Sequence[int], theirs: Sequence[int]) -> str | None:
    """Where the trainer's ids (`ours`) and the engine's (`theirs`) differ, in words; None if they are equal."""
    if list(ours) == list(theirs):
        return None
    differing = (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
    place = next(differing, min(len(ours), len(theirs)))
    return f"{len(ours)} ids in the trainer, {len(theirs)} in the engine, first difference at {place}"


@torch.inference_mode()
def trainer_logprobs(model: Any, inputs: dict[str, Any], row: RolloutRow, temperature: float) -> torch.Tensor:
    """Log-probs, shape (T,), of the caption's tokens; the model computes positions itself, as in training."""
    completion = torch.tensor([row.completion_ids])
    joined = dict(inputs) | {"input_ids": torch.cat([inputs["input_ids"], completion], dim=1)}
    joined["attention_mask"] = torch.ones_like(joined["input_ids"])
    if "mm_token_type_ids" in joined:
        joined["mm_token_type_ids"] = torch.cat([joined["mm_token_type_ids"], torch.zeros_like(completion)], dim=1)
    moved = {name: value.to(model.device) for name, value in joined.items()}
    logits = model(**moved, use_cache=False, logits_to_keep=completion.shape[1] + 1).logits[0, :-1]
    scaled = (logits.float() / temperature).log_softmax(-1)
    return scaled.gather(1, completion[0, :, None].to(scaled.device))[:, 0].cpu()
