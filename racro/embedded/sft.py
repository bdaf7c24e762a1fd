"""Supervised training of a tiny model on a stream of batches; changes the weights in place.

Not a general trainer, and not reinforcement learning (`racro.training.trainer`). Called by `racro.embedded.rebuild`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from racro.embedded.examples import Example
from racro.embedded.recipe import Schedule
from racro.embedded.tokenizer import END

IGNORED = -100
"""The label of tokens that take no part in the loss."""
REPORT_EVERY = 50

Progress = Callable[[str, int, int, float], None]
"""Called with the model's name, steps done, total steps, and the mean loss since the last call."""


def train(
    name: str,
    model: PreTrainedModel,
    processor: Any,
    batches: Iterable[Sequence[Example]],
    schedule: Schedule,
    progress: Progress,
) -> None:
    """One optimizer step per batch, as many as the schedule has steps. All examples have the same weight."""
    optimizers = _optimizers(model, schedule)
    rates = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: rate_at(step, schedule)) for o in optimizers]
    model.train()
    recent: list[float] = []
    for step, batch in enumerate(batches, start=1):
        total = 0.0
        for part in alike(batch):
            loss = example_losses(model, collate(part, processor)).sum() / len(batch)
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), schedule.clip)
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            rate.step()
        recent.append(total)
        if step % REPORT_EVERY == 0 or step == schedule.steps:
            progress(name, step, schedule.steps, sum(recent) / len(recent))
            recent.clear()
    model.eval()


def _optimizers(model: PreTrainedModel, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for the rest."""
    named = list(model.named_parameters())
    inner = [p for name, p in named if p.ndim == 2 and "embed" not in name]
    outer = [p for name, p in named if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(inner, lr=schedule.lr, weight_decay=schedule.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, lr=schedule.adamw_lr, weight_decay=0.0, betas=(0.9, 0.98)),
    ]


def alike(batch: Sequence[Example]) -> Iterator[list[Example]]:
    """The batch in parts of similar length, with or without images, to save padding: prompt lengths differ tenfold."""
    part: list[Example] = []
    for example in sorted(batch, key=lambda e: (bool(e.images), e.length)):
        if part and (bool(example.images) != bool(part[0].images) or example.length > 1.5 * part[0].length):
            yield part
            part = []
        part.append(example)
    yield part


def example_losses(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean negative log-likelihood of each example's target tokens, shape (examples,)."""
    labels = inputs.pop("labels")
    # One more logit than labels, because the prompt's last token predicts the first label.
    logits = model(**inputs, logits_to_keep=labels.shape[1] + 1, use_cache=False).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
    return losses.sum(1) / (labels != IGNORED).sum(1)


def rate_at(step: int, schedule: Schedule) -> float:
    """The factor on the learning rate: linear warm-up times a cosine from 1 to 0.05."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / schedule.steps)))
    return min(1.0, (step + 1) / schedule.warmup) * (0.05 + 0.95 * cosine)


def collate(batch: Sequence[Example], processor: Any) -> dict[str, torch.Tensor]:
    """Model inputs, and `labels` for the target only: prompts padded left, targets padded right.

    `processor` is a processor if the examples have images; otherwise a tokenizer is enough. Within a batch, either all
    examples have images or none has.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    prompts = [tokenizer.apply_chat_template(e.messages, add_generation_prompt=True, tokenize=False) for e in batch]
    if batch[0].images:
        inputs = processor(
            text=prompts, images=[e.images for e in batch], padding=True, padding_side="left", return_tensors="pt"
        )
    else:
        inputs = tokenizer(prompts, padding=True, padding_side="left", return_tensors="pt")
    targets = tokenizer([e.target + END for e in batch], padding=True, padding_side="right", return_tensors="pt")
    ids, mask = targets["input_ids"], targets["attention_mask"]
    joined = {
        "input_ids": torch.cat([inputs["input_ids"], ids], dim=1),
        "attention_mask": torch.cat([inputs["attention_mask"], mask], dim=1),
        "labels": ids.masked_fill(mask == 0, IGNORED),
    }
    if batch[0].images:
        types = inputs["mm_token_type_ids"]
        joined["mm_token_type_ids"] = torch.cat([types, torch.zeros_like(ids)], dim=1)
        joined["pixel_values"] = inputs["pixel_values"]
        joined["image_grid_thw"] = inputs["image_grid_thw"]
    return joined
