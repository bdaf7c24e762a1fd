"""Prompts -> generations, where one that cannot be asked costs no other one.

Engines refuse a whole call for one prompt (too long, an image that changed, a picture no processor takes). Called where
questions are many and independent: `racro.answering.pipeline`, `racro.evaluation.modes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from racro.engines.protocol import Engine, Generation, Prompt, Sampling
from racro.errors import BadInput


class Refused(BadInput):
    """A prompt that the model cannot be asked."""


def each(
    engine: Engine, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]
) -> Iterator[Generation | BadInput]:
    """One generation per prompt, in order; its error for a prompt that the engine refuses.

    What is left of a refused call is asked again in halves. Raises EngineLost.
    """
    done = 0
    try:
        for generation in engine.generate(prompts, sampling, seeds):
            yield generation
            done += 1
        return
    except ValueError as error:
        refusal = error
    left = len(prompts) - done
    if left <= 1:
        yield refusal if isinstance(refusal, BadInput) else Refused(f"the model cannot be asked this: {refusal}")
        return
    middle = done + left // 2
    for part in (slice(done, middle), slice(middle, len(prompts))):
        yield from each(engine, prompts[part], sampling, seeds[part])
