"""A tiny training with captions one policy behind, whose reasoner stands behind a URL and is told what it answers.

The trainer is a process of its own, so that captions and rewards of the next iteration are made while it trains.
"""

from __future__ import annotations

import re
from typing import Any

from racro.config import Recipe, loading
from tests.conftest import EMBEDDED_RECIPE, TINY
from tests.support.talker import Reply, last_text, said

ITERATIONS = 3
OVERRIDES = (
    *TINY,
    f"iterations={ITERATIONS}",
    "rollout.lag=1",
    "rollout.problems=4",
    "update.mini_batch=2",
    "evaluation.every=3",
    "evaluation.problems=4",
    "rewards=[{type: answer}, {type: length, weight: 0.5, budget: 6, limit: 12}]",
    "reasoner={model: m, engine: {type: server}}",
    "runtime.caption_batch=2",
    "runtime.checkpoint_every=2",
    "runtime.trainer={processes: 1, tokens: 4096}",
)


def lagged(url: str) -> Recipe:
    """`url`: of the reasoner's server."""
    return loading.load(EMBEDDED_RECIPE, [*OVERRIDES, f"runtime.reasoner.urls=[{url}]"])


def reader(body: dict[str, Any], i: int) -> Reply:
    """An answer that depends on the words of the question and its caption alone."""
    return said(f"\\boxed{{{len(re.findall('[aeiou]', last_text(body))) % 9}}}")
