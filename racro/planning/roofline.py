"""Seconds of an iteration's parts on GPUs that nobody has measured: a roofline.

Reading prompts and training are bound by matrix products, two operations for each parameter and token (arXiv
2001.08361, section 2.1). Decoding is bound by memory: each step reads the weights once, and the keys and values of all
sequences (arXiv 2211.05102). Attention's own products are left out. All lengths are averages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from racro.planning.given import Gpus, Rates

WEIGHTS = 0.7
"""Most of a GPU's memory that an engine's weights take; the rest is for keys and values."""


@dataclass(frozen=True)
class Model:
    """What counts of a model."""

    parameters: int
    bytes: float
    """Of a parameter, in an engine."""
    cache: float
    """Bytes of keys and values of a token."""

    def parallel(self, gpus: Gpus) -> int | None:
        """GPUs of one copy: as few as hold it. None: no node holds it."""
        sizes = (2**power for power in range(int(math.log2(gpus.gpus)) + 1))
        return next((n for n in sizes if self.parameters * self.bytes <= WEIGHTS * gpus.bytes * n), None)


@dataclass(frozen=True)
class Ask:
    """What a model is asked in an iteration."""

    prompts: float
    samples: int
    """Answers to each prompt, which is read once."""
    reads: int
    """Tokens of a prompt."""
    writes: int
    """Tokens of an answer."""


@dataclass(frozen=True)
class Update:
    """What the trainer does in an iteration."""

    parameters: int
    passes: int
    """Operations for each parameter and token: 6 for training, and 2 for each further pass forward."""
    groups: float
    """Groups of all optimizer steps."""
    step: int
    """Groups of a step."""
    tokens: int
    """Of a group."""
    fill: int
    """Tokens of a pass."""


def generating(ask: Ask, model: Model, copies: int, parallel: int, gpus: Gpus, rates: Rates, most: int) -> float:
    """Seconds until all is answered by so many copies of `parallel` GPUs. most: sequences of a copy at once."""
    if not ask.prompts:
        return 0.0
    prompts = math.ceil(ask.prompts / copies)
    sequences = prompts * ask.samples
    reading = 2 * model.parameters * prompts * ask.reads / (gpus.flops * rates.prefill * parallel)
    context = ask.reads + ask.writes / 2
    room = max(0.0, gpus.bytes * parallel - model.parameters * model.bytes) * rates.cache
    fitting = int(room / (model.cache * (ask.reads + ask.writes))) if model.cache else most
    at_once = max(1, min(most, fitting, sequences))
    reads = model.parameters * model.bytes + at_once * context * model.cache
    step = max(
        reads / (gpus.reads * rates.decode * parallel),
        2 * model.parameters * at_once / (gpus.flops * rates.prefill * parallel),
    )
    return reading + sequences / at_once * ask.writes * step


def updating(work: Update, count: int, gpus: Gpus, rates: Rates) -> float:
    """Seconds of an update on so many GPUs, among which the model is divided (FSDP).

    A group is not divided, so a step with fewer groups than GPUs leaves some idle. Weights are gathered twice and
    gradients scattered once in each pass, while it computes.
    """
    if not work.groups:
        return 0.0
    steps = max(1, round(work.groups / work.step))
    each = math.ceil(work.groups / steps / count) * work.tokens
    passes = math.ceil(each / work.fill)
    computing = work.passes * work.parameters * each / (gpus.flops * rates.train)
    moving = passes * 3 * 2 * work.parameters / gpus.between(count) if count > 1 else 0.0
    return steps * max(computing, moving)
