"""Captions of synthetic images compared with their scenes: shares of true, sufficient and leaking captions.

Only the embedded world has scenes. Captions of real images have none of these metrics. Called by
`racro.evaluation.results`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from racro.embedded import oracle
from racro.schema import Metric, Problem, Share
from racro.schema.shares import standard_error

TRUTHFUL, STATES_ASKED, LEAKS = "truthful", "states what is asked", "leaks"
"""Names of the metrics: true ones among the facts stated (n counts facts); captions that state, truthfully, every fact
asked for; captions that announce an answer."""


def caption_metrics(captioned: Iterable[tuple[Problem, str]]) -> list[Metric]:
    """The three metrics over finished captions of problems with a scene; what has no case is left out."""
    facts = [oracle.inspect(caption, problem.scene) for problem, caption in captioned if problem.scene is not None]
    shares = {
        TRUTHFUL: truthful([(found.stated, found.true) for found in facts if found.stated]),
        STATES_ASKED: Share.of(found.states_asked for found in facts),
        LEAKS: Share.of(found.leaks for found in facts),
    }
    return [Metric(name=name, **dict(share)) for name, share in shares.items() if share is not None]


def truthful(captions: Sequence[tuple[int, int]]) -> Share | None:
    """The share of true facts over (stated, true) of captions, each with at least one fact.

    The facts of one caption come from one image, so captions, not facts, are the independent cases: the standard error
    is that of a ratio over clusters. With one fact per caption it equals that of `Share.of`.
    """
    stated = sum(s for s, _ in captions)
    if stated == 0:
        return None
    share = sum(t for _, t in captions) / stated
    stderr = math.sqrt(sum((t - share * s) ** 2 for s, t in captions)) / stated
    return Share(value=share, stderr=stderr or standard_error(share, len(captions)), n=stated)
