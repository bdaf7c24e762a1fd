"""The engine protocol: prompts with images in, tokens with log-probs out.

Captioner and reasoner are both asked through `Engine`. Apart from the trainer (`racro.training`), nothing else in the
project calls a model's forward. Which engine a recipe gets is decided in `racro.engines.opening`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from PIL import Image

from racro.errors import BadInput
from racro.prompts import Message
from racro.schema import FinishReason

Role = Literal["captioner", "reasoner"]


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
