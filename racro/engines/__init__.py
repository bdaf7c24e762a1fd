"""Engines generate text from prompts with images. One protocol, here; one file per engine beside it.

The captioner and the reasoner are both asked through `Engine`; nobody else in the project calls a model's forward,
the trainer in `racro.update` excepted.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from PIL import Image

from racro.config import Captioner, Place, Reasoner, Runtime
from racro.errors import BadInput
from racro.prompts import Message
from racro.schema import FinishReason

Role = Literal["captioner", "reasoner"]

LOG = Path(os.environ.get("RACRO_HOME", ".racro")) / "engines.log"
"""Where engines in processes of their own write, unless told otherwise."""


@dataclass(frozen=True)
class Prompt:
    """Chat messages, and the images of their image parts in order."""

    messages: list[Message]
    images: tuple[Image.Image, ...] = ()


@dataclass(frozen=True)
class Sampling:
    """How to sample. Temperature 0 is greedy."""

    n: int = 1
    """Completions per prompt."""
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 1024
    deadline: float = 1800.0
    """Seconds per engine batch; what is unfinished then has finish_reason `deadline`."""


@dataclass(frozen=True)
class Completion:
    """One sampled continuation."""

    token_ids: tuple[int, ...]
    """T ids, the end-of-text token included when the model wrote it."""
    logprobs: tuple[float, ...]
    """T natural-log probabilities under the distribution that was sampled from (after temperature, top_p, bans)."""
    text: str
    """Decoded without special tokens."""
    finish_reason: FinishReason


@dataclass(frozen=True)
class Generation:
    """All completions of one prompt."""

    prompt_ids: tuple[int, ...]
    """Ids that the model saw, image tokens expanded, padding left out."""
    completions: tuple[Completion, ...] = field(default=())


class Engine(Protocol):
    """What every engine does. Engines derive from it."""

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]) -> Iterator[Generation]:
        """Yield one Generation per prompt, in order, as they come.

        `seeds`: one per prompt. A completion is a function of (prompt, sampling, its seed, its sample number), never
        of the batch it travelled in; engines whose arithmetic depends on the batch keep this up to rounding. May be
        called from several threads at once. Raises EngineLost.
        """
        ...

    def swap(self, folder: str) -> None:
        """Go on with the weights of another checkpoint of the same model, every cache of the old ones cleared.

        Returns when the engine is known to hold the new weights. Raises SwapFailed: close it and open another.
        """
        raise SwapFailed(f"{type(self).__name__} cannot change its weights")

    @property
    def lost(self) -> bool:
        """Has it raised EngineLost? Then only `close` is left to do."""
        return False

    @property
    def positions(self) -> int | None:
        """Tokens of prompt and completion together, at most; None where only the model's folder says."""
        return None

    @property
    def steps(self) -> int | None:
        """Steps made so far, where they are counted and something is being generated: they must go on."""
        return None

    def rest(self) -> None:
        """Give back the GPU memory until the next call, where the engine can; nobody is waiting for it now."""
        return None

    def close(self) -> None:
        """Give back memory and processes. The engine cannot be used afterwards. May be called twice."""
        ...


class PromptTooLong(BadInput):
    """A prompt that leaves no room for `max_tokens`. Prompts are never cut: the question would go first."""


class EngineLost(RuntimeError):
    """The engine died, hangs or cannot be reached; a retry with a new engine can heal it."""


class SwapFailed(RuntimeError):
    """The engine does not hold the weights that it should."""


def prompt_seed(seed: int, *parts: object) -> int:
    """A 63-bit seed for one prompt, from the recipe's seed and what names the prompt (stage, iteration, uid)."""
    return random.Random(":".join(map(str, (seed, *parts)))).getrandbits(63)


def open_captioner(config: Captioner, folder: str, runtime: Runtime, log: Path = LOG) -> Engine:
    """An engine on a captioner's local model folder (a policy, or the initial model), where `runtime` places it.

    `log`: where engines in processes of their own write what they print. Raises EngineLost when one does not start.
    """
    return _open("captioner", config, folder, runtime, log)


def open_reasoner(config: Reasoner, folder: str, runtime: Runtime, log: Path = LOG) -> Engine:
    """The same on a reasoner's local model folder."""
    return _open("reasoner", config, folder, runtime, log)


def outside(config: Captioner | Reasoner, place: Place) -> bool:
    """Does the engine run in processes of its own, so that it works while this one does something else?"""
    if config.engine.type == "server" or place.data_parallel > 1:
        return True
    return config.engine.type == "vllm" if place.worker is None else place.worker


def build(role: Role, config: Captioner | Reasoner, folder: str, place: Place, runtime: Runtime) -> Engine:
    """An engine in this very process."""
    engine = config.engine
    if engine.type == "scripted":
        from racro.engines.scripted import ScriptedEngine

        return ScriptedEngine(engine.rules)
    if engine.type == "vllm":
        from racro.engines.vllm import VllmEngine

        if isinstance(config, Captioner):
            return VllmEngine.captioner(folder, config.dtype, engine, place, config.lora)
        return VllmEngine.reasoner(folder, config.dtype, engine, place)
    if engine.type == "transformers":
        from racro.engines.transformers import TransformersEngine

        if role == "captioner":
            return TransformersEngine.captioner(folder, config.dtype, runtime.device, runtime.caption_batch)
        return TransformersEngine.reasoner(folder, config.dtype, runtime.device, runtime.reason_batch)
    raise ValueError(f"an engine of type {engine.type} runs in a process of its own")


def _open(role: Role, config: Captioner | Reasoner, folder: str, runtime: Runtime, log: Path) -> Engine:
    place: Place = getattr(runtime, role)
    if not outside(config, place):
        return build(role, config, folder, place, runtime)
    if config.engine.type == "server" and place.urls:
        from racro.engines.server import Endpoint

        return Endpoint(place.urls, config.model, place, role, folder, config.dtype)
    if config.engine.type == "server":
        from racro.engines.serving import Server as Start
    else:
        from racro.engines.worker import Worker as Start  # type: ignore[assignment]

    from racro.engines.balanced import Balanced
    from racro.engines.gpus import wait_for_memory

    places = copies(place)
    wait_for_memory(place.gpus, place.gpu_memory, place.start_deadline)
    with ThreadPoolExecutor(len(places)) as pool:  # a large model takes a minute to load
        starts = [
            pool.submit(Start, role, config, folder, runtime.model_copy(update={role: part}), log) for part in places
        ]
    try:
        opened = [start.result() for start in starts]
    except BaseException:  # one that did not start must not leave the others running; raised again
        for start in starts:
            if start.exception() is None:
                start.result().close()
        raise
    return opened[0] if len(opened) == 1 else Balanced(opened, place.sequences)


def copies(place: Place) -> list[Place]:
    """One place for each copy of the model, each with its share of the GPUs."""
    size = place.tensor_parallel
    return [
        place.model_copy(update={"data_parallel": 1, "gpus": place.gpus[i * size : (i + 1) * size]})
        for i in range(place.data_parallel)
    ]
