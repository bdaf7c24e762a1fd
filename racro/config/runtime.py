"""Recipe section `runtime`: where and how fast. It changes no digest and no cache key."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt

from racro.config.base import Config, Seconds


class Timeouts(Config):
    """Seconds after which a stage is given up."""

    fingerprint: Seconds = 6 * 3600
    """Reading one benchmark."""
    prepare: Seconds = 6 * 3600
    """Preparing a data set."""
    parity: Seconds = 3600
    """Comparing engine and trainer before the first iteration."""
    caption: Seconds = 6 * 3600
    """Captioning one iteration."""
    reason: Seconds = 6 * 3600
    """Answering one iteration."""
    update: Seconds = 6 * 3600
    """One update."""
    load: Seconds = 6 * 3600
    """Reading one benchmark for an evaluation."""
    describe: Seconds = 6 * 3600
    """Captions of one part of a benchmark."""
    attempt: Seconds = 6 * 3600
    """The captioner's own answers to one part."""
    answer: Seconds = 6 * 3600
    """The reasoner's answers to one part."""
    grade: Seconds = 3600
    """Grading one benchmark in one mode."""
    aggregate: Seconds = 3600
    """Its metrics."""


class EnginePlacement(Config):
    """Where a role's engine runs, and how much of the machine it takes."""

    worker: bool | None = None
    """In a child process of its own? None: vLLM is, the others are not."""
    gpus: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """GPUs by number; empty: those that the process sees."""
    tensor_parallel: PositiveInt = 1
    """GPUs that share one copy of the model."""
    data_parallel: PositiveInt = 1
    """Copies of the model, each a process of its own, among which prompts are balanced."""
    gpu_memory: Annotated[float, Field(gt=0, le=1)] = 0.85
    """Share of a GPU's memory that vLLM takes."""
    cpu_cache: Annotated[float, Field(gt=0)] = 1.0
    """GiB of vLLM's KV cache where it runs on a CPU."""
    sequences: PositiveInt = 256
    """Sequences that are decoded at once, or requests in flight to an endpoint."""
    eager: bool | None = None
    """Without CUDA graphs and compilation: starts in seconds. None: on CPUs."""
    urls: tuple[str, ...] = ()
    """Base URLs of running endpoints, `http://host:8000/v1`, for the engine `server`."""
    api_key: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key of those endpoints."""
    start_deadline: Seconds = 900.0
    """Seconds until an engine that was started must answer."""
    silence: Seconds = 120.0
    """Seconds without a sign of life after which an engine's process counts as hung; a step of vLLM's is one."""


class Runtime(Config):
    """Where and how fast. Changes no digest and no cache key."""

    captioner: EnginePlacement = EnginePlacement()
    """The captioner's engine."""
    reasoner: EnginePlacement = EnginePlacement()
    """The reasoner's engine."""
    streaming: bool = True
    """Ask the reasoner about captions as they finish, where it runs in a process of its own."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1 ..."""
    caption_batch: PositiveInt = 16
    """Problems per engine batch when captioning."""
    reason_batch: PositiveInt = 64
    """Prompts per engine batch when reasoning."""
    micro_batch: PositiveInt = 4
    """Captions per forward and backward pass of the update; a mini-batch is made of whole ones."""
    gradient_checkpointing: bool = True
    """Trade a third more compute for activation memory."""
    request_deadline: Seconds = 1800.0
    """Seconds one engine batch may take; what is unfinished then counts as failed."""
    cache: Annotated[float, Field(gt=0)] = 100.0
    """GiB of this machine's disk for what is downloaded from a remote root: policies, images."""
    retries: Annotated[int, Field(ge=0)] = 2
    """Retries of a stage after a failure that can heal (storage, lost engine)."""
    retry_delay: Annotated[float, Field(ge=0)] = 5.0
    """Seconds before the first retry; doubled each time."""
    timeouts: Timeouts = Timeouts()
    """Per stage."""
