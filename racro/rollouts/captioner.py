"""Problems x policy -> captions, sampled in groups for training; the prompts are also those of evaluations.

Not an engine: this module says what is asked, `racro.engines` how it is generated. Called by the stage caption, by
`racro.training.parity` and by `racro.evaluation`.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Sequence

from racro import config
from racro.engines.protocol import Engine, Generation, Refusal, Sampling, prompt_seed
from racro.prompts import WRITING, Message
from racro.rollouts.looking import Look, asked_of, look
from racro.rollouts.thoughts import spoken
from racro.schema import FinishReason, Problem, Rollout

Progress = Callable[[int, int], None]
"""Called with (done, total) items as they come."""


Refused = Callable[[Problem, str], None]
"""Called with a problem whose prompt an engine refuses, and the reason in one line."""


def missing(caption: str, finish_reason: FinishReason) -> bool:
    """True if the token limit came before the caption began: a thinking captioner was still thinking."""
    return finish_reason == "length" and not caption


def silent(done: int, total: int) -> None:
    """The Progress that shows nothing."""


def ignored(problem: Problem, reason: str) -> None:
    """The Refused that does nothing."""


def select(problems: Sequence[Problem], count: int, seed: int, iteration: int) -> list[Problem]:
    """The problems of one iteration: a pure function of (seed, iteration), whatever ran before.

    Iterations walk through the pool in random order, epoch after epoch, with a new order in each epoch. No problem
    comes twice in an iteration, even if the iteration spans two epochs. A pool of fewer than `count` problems is used
    whole every time: a problem that came twice would only be a larger group.
    """
    size = len(problems)
    count = min(count, size)
    start = iteration * count
    first, last = start // size, (start + count - 1) // size  # the one or two epochs of this iteration
    walk: list[int] = []
    order: list[int] = []
    for epoch in range(last + 1):
        before, order = order, random.Random(f"select:{seed}:{epoch}").sample(range(size), size)
        if begun := epoch * size % count:  # problems of the epoch before in the iteration that both share
            taken = set(before[-begun:])
            head = [i for i in order if i not in taken][: count - begun]
            placed = set(head)
            order = head + [i for i in order if i not in placed]
        if epoch >= first:
            walk += order
    offset = start - first * size
    return [problems[i] for i in walk[offset : offset + count]]


def ask(
    problems: Sequence[Problem],
    images_base: str,
    engine: Engine,
    messages: Callable[[str, int], list[Message]],
    sampling: Sampling,
    seed: Callable[[Problem], int],
) -> Iterator[Generation | Refusal]:
    """The engine's answers about the problems' images, by the index of the problem and in any order. See `look`."""
    looks = [
        Look(asked_of(problem, images_base), functools.partial(messages, problem.question), seed(problem))
        for problem in problems
    ]
    return look(looks, engine, sampling)


def caption(
    problems: Sequence[Problem],
    images_base: str,
    policy: str,
    engine: Engine,
    rollout: config.RolloutSettings,
    seed: int,
    iteration: int,
    deadline: float,
    progress: Progress = silent,
    refused: Refused = ignored,
    objective: config.Objective = "caption",
) -> Iterator[Rollout]:
    """G captions of each problem, as groups finish and in any order of the groups. See `in_order`.

    With the objective `answer` they are the policy's own answers, as all that follows is the same.
    `policy` is the digest of the policy behind `engine`; `images_base` the folder of the problem table. A problem that
    the engine refuses, or whose images cannot be read, has no captions.
    """
    sampling = Sampling(rollout.group_size, rollout.temperature, rollout.top_p, rollout.max_tokens, deadline)

    def own(problem: Problem) -> int:
        return prompt_seed(seed, "caption", iteration, problem.uid)

    for done, made in enumerate(ask(problems, images_base, engine, WRITING[objective], sampling, own), 1):
        problem = problems[made.key]
        if isinstance(made, Refusal):
            refused(problem, made.reason)
        else:
            yield from group_of(problem, policy, made)
        progress(done, len(problems))


def group_of(problem: Problem, policy: str, made: Generation) -> list[Rollout]:
    """The captions of a problem, as a policy wrote them."""
    return [
        Rollout(
            uid=problem.uid,
            sample=sample,
            policy=policy,
            prompt_ids=made.prompt_ids,
            completion_ids=completion.token_ids,
            logprobs=completion.logprobs,
            finish_reason=completion.finish_reason,
            caption=(said := spoken(completion.text)),
            written="" if said == completion.text else completion.text,
        )
        for sample, completion in enumerate(made.completions)
    ]


def in_order(rollouts: Sequence[Rollout], problems: Sequence[Problem]) -> list[Rollout]:
    """The rollouts in the order of the problems, whatever the order in which they came."""
    places = {problem.uid: place for place, problem in enumerate(problems)}
    return sorted(rollouts, key=lambda rollout: (places[rollout.uid], rollout.sample))
