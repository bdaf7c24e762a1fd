"""Which requests make a batch: those that are sampled alike and about as long. Called by `racro.engines.local`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator

from racro.engines.protocol import BadPrompt, Prompt, Refusal, Request, Sampling

WINDOW = 4
"""Batches among which requests are sorted by length, which reduces padding. Sorting all of them would hold every image
of a stage in memory."""

Members = list[tuple[Request, str]]
"""Requests with their filled templates."""


def batches(
    requests: Iterable[Request], fill: Callable[[Prompt], str], size: int, lanes: int = 1
) -> Iterator[tuple[Members | Refusal, Sampling]]:
    """Requests with their filled templates, sampled alike, up to `size`; refusals of those that have none.

    lanes: batches that are computed at once. Few requests are shared out among them.
    """
    source = iter(requests)
    while window := list(itertools.islice(source, WINDOW * size)):
        readable: Members = []
        for request in window:
            try:
                readable.append((request, fill(request.prompt)))
            except BadPrompt as error:
                yield Refusal.of(request, error), request.sampling
        # Longest first, so that what does not fit into memory fails at the start. An estimate suffices: an image
        # token covers 28 x 28 pixels in Qwen2.5-VL, a text token about four characters.
        readable.sort(key=lambda member: _weight(*member), reverse=True)
        kinds = [(request.sampling, request.forced is not None) for request, _ in readable]
        for sampling, forced in dict.fromkeys(kinds):
            alike = [m for m, kind in zip(readable, kinds, strict=True) if kind == (sampling, forced)]
            share = min(size, math.ceil(len(alike) / lanes))
            for start in range(0, len(alike), share):
                yield alike[start : start + share], sampling


def _weight(request: Request, text: str) -> float:
    """About how many tokens the prompt has."""
    return len(text) / 4 + sum(image.width * image.height for image in request.prompt.images) / 784
