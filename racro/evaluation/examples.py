"""Solved examples for mode shots: which training problems, and their captions."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence

from racro.engines.protocol import Engine, Refusal, Sampling
from racro.errors import BadInput
from racro.prompts import caption_messages
from racro.rollouts.captioner import Progress, silent
from racro.rollouts.looking import Look, asked_of, look
from racro.rollouts.thoughts import spoken
from racro.schema import Problem, Shot


class NoShots(BadInput):
    """Not one solved example could be made."""


def draw(problems: Sequence[Problem], count: int, seed: int) -> list[Problem]:
    """`count` different problems, or all if there are fewer, in the order of drawing.

    More of the same seed begin with the same ones.
    """
    return random.Random(f"shots:{seed}").sample(problems, len(problems))[:count]


def captioned(
    problems: Sequence[Problem],
    images_base: str,
    engine: Engine,
    max_tokens: int,
    deadline: float,
    progress: Progress = silent,
) -> list[Shot]:
    """The problems with greedy captions; those without a finished caption are left out. Raises NoShots."""
    looks = [
        Look(asked_of(problem, images_base), functools.partial(caption_messages, problem.question))
        for problem in problems
    ]
    captions: dict[int, str] = {}
    for done, made in enumerate(look(looks, engine, Sampling(1, 0.0, 1.0, max_tokens, deadline)), 1):
        if not isinstance(made, Refusal) and made.completions[0].finish_reason == "stop":
            captions[made.key] = spoken(made.completions[0].text).strip()
        progress(done, len(looks))
    shots = [
        Shot(uid=problem.uid, question=problem.question, caption=captions[i], answer=problem.answer)
        for i, problem in enumerate(problems)
        if captions.get(i)
    ]
    if not shots:
        raise NoShots(
            f"mode shots: not one of {len(problems)} training problems got a finished caption; raise "
            "rollout.max_tokens or runtime.request_deadline, or draw more (shots)"
        )
    return shots
