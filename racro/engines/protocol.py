"""The engine protocol: requests with images in, tokens with log-probs out.

Captioner and reasoner are both asked through `Engine`. Apart from the trainer (`racro.training`), nothing else in the
project calls a model's forward. Which engine a recipe gets is decided in `racro.engines.opening`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from racro.errors import BadInput
from racro.prompts import Message
from racro.schema import FinishReason

Role = str
"""captioner, reasoner, reasoners.NAME, or judges.NAME: under which `runtime` says where a model's engine runs."""


@dataclass(frozen=True)
class Prompt:
    """Chat messages, and the images of their image parts in order."""

    messages: list[Message]
    images: tuple[Image.Image, ...] = ()
    lead: str = ""
    """How the model's turn begins; the model goes on from there, and its text does not repeat it."""


@dataclass(frozen=True)
class Sampling:
    """How to sample. Temperature 0 is greedy."""

    n: int = 1
    """Completions per prompt."""
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 1024
    deadline: float = 1800.0
    """Seconds from when the engine starts on a request; completions that are unfinished then end with `deadline`."""


@dataclass(frozen=True)
class Request:
    """One prompt that an engine is asked to continue."""

    key: int
    """The caller's number for this request. The answer carries it; no other request of the same call may have it."""
    prompt: Prompt
    sampling: Sampling
    seed: int
    forced: str | None = None
    """A text that is scored, not sampled: the completion is this text, and its log-probs are those of temperature 1,
    without an end of the text. The sampling has no part in it, except for the deadline. None: the model writes."""


@dataclass(frozen=True)
class Completion:
    """One sampled continuation."""

    token_ids: tuple[int, ...]
    """T ids, the end-of-text token included when the model wrote it."""
    logprobs: tuple[float, ...]
    """T natural-log probabilities under the distribution that was sampled from (after temperature, top_p, bans).

    Empty where the engine gives none: vLLM and servers give a captioner's only, which training needs. Those of a forced
    text are always there.
    """
    text: str
    """Decoded without special tokens."""
    finish_reason: FinishReason


@dataclass(frozen=True)
class Generation:
    """The answer to one request: all completions of its prompt."""

    key: int
    """The request's."""
    prompt_ids: tuple[int, ...]
    """Ids that the model saw, with image tokens expanded and without padding."""
    completions: tuple[Completion, ...]
    counted: tuple[int, int] | None = None
    """Tokens of the prompt and of all completions, as a server that gives no ids counts them."""

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens of the prompt, and of all completions."""
        return self.counted or (len(self.prompt_ids), sum(len(made.token_ids) for made in self.completions))


@dataclass(frozen=True)
class Partial:
    """What the model has written so far for a request with one completion. Later texts begin with it."""

    key: int
    """The request's."""
    text: str


@dataclass(frozen=True)
class Refusal:
    """The answer to a request whose prompt the model cannot be asked. It costs this request only."""

    key: int
    """The request's."""
    reason: str
    """Why, in one line."""

    @classmethod
    def of(cls, request: Request, error: BadPrompt) -> Refusal:
        """The refusal that an engine yields for what it found wrong with a prompt."""
        return cls(request.key, str(error))


class Engine(Protocol):
    """What every engine does. Engines derive from it."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        """Yield exactly one answer per request, as they finish and in any order.

        A completion is a function of (prompt, sampling, seed, sample number) and never of the batch that it was made
        in; engines whose arithmetic depends on the batch keep this up to rounding. `requests` is read lazily, as there
        is room for more, possibly in another thread; what reading raises is raised here. A prompt that cannot be asked
        (too long, an image that the processor does not take, a forced text for an engine that scores none) is answered
        with a Refusal. May be called from several
        threads at once. Raises EngineLost.
        """
        ...

    def stream(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal | Partial]:
        """The same as `generate`, with texts while they are written if the engine can, several times a second at most.

        To be read to its end or closed at once, and by a thread that asks this engine for nothing else meanwhile:
        engines may work only while somebody reads.
        """
        return self.generate(requests)

    def prefetch(self, requests: Iterable[Request]) -> None:
        """Have these answered in the background if the engine can (see `racro.engines.prefetcher`).

        A later `generate` with the same prompt, sampling and seed finds the answer. Returns at once.
        """
        return None

    def swap(self, folder: str) -> None:
        """Load the weights of another checkpoint of the same model and clear every cache of the old ones.

        Returns when the engine is known to hold the new weights. Raises SwapFailed: close it and open another.
        """
        raise SwapFailed(f"{type(self).__name__} cannot change its weights")

    @property
    def lost(self) -> bool:
        """True once it has raised EngineLost; then it can only be closed."""
        return False

    @property
    def moved(self) -> int:
        """Requests so far that one of several servers or copies did not answer, and another one did."""
        return 0

    @property
    def positions(self) -> int | None:
        """The most tokens that prompt and completion may have together; None if only the model's folder says."""
        return None

    @property
    def steps(self) -> int | None:
        """Decoding steps made so far, which must keep growing; None while nothing is generated or steps are unknown."""
        return None

    def sleep(self, discard: bool = False) -> None:
        """Free the GPU memory until the next call, if the engine can. Nothing may be in progress.

        `discard`: other weights are about to be swapped in, so these need not be kept in main memory. If they are
        needed after all, they are read from their folder again.
        """
        return None

    def close(self) -> None:
        """Free memory and end processes. The engine cannot be used afterwards. May be called twice."""
        ...


class BadPrompt(BadInput):
    """A prompt that the model cannot be asked. Raised inside an engine, which answers the request with a Refusal."""

    def __init__(self, why: object) -> None:
        """`why`: an error or a text; line breaks become spaces."""
        super().__init__(" ".join(str(why).split()))


SHORTER = "ask a shorter question, show a smaller image, or lower max_tokens"
"""What helps where a prompt is too long, for whoever reads it: a visitor of a page, or the owner of a data set."""


def too_long(tokens: int, max_tokens: int, room: str) -> BadPrompt:
    """A prompt that leaves no room for `max_tokens`. Prompts are never cut: the question would go first."""
    return BadPrompt(f"a prompt of {tokens} tokens and max_tokens {max_tokens} exceed {room}; {SHORTER}")


class EngineLost(RuntimeError):
    """The engine died, hangs or cannot be reached. A retry with a new engine may succeed."""


class SwapFailed(RuntimeError):
    """The engine does not hold the weights that it should."""


def prompt_seed(seed: int, *parts: object) -> int:
    """A 63-bit seed for one prompt, from the recipe's seed and what names the prompt (stage, iteration, uid)."""
    return random.Random(":".join(map(str, (seed, *parts)))).getrandbits(63)
