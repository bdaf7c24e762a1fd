"""Problems x policy -> captions, sampled in groups for training; the prompts are also those of evaluations.

Not an engine: it says what is asked, `racro.engines` how it is generated. Called by the stage caption and by
`racro.evaluation.modes`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import overload

from racro import config
from racro.data.images import open_image
from racro.engines.protocol import Engine, Prompt, Sampling, prompt_seed
from racro.prompts import Message, caption_messages
from racro.schema import Problem, Rollout

Progress = Callable[[int, int], None]
"""Called with (done, total) items as they come."""


def silent(done: int, total: int) -> None:
    """The Progress of whoever does not watch."""


def select(problems: Sequence[Problem], count: int, seed: int, iteration: int) -> list[Problem]:
    """The problems of one iteration: a pure function of (seed, iteration), whatever ran before.

    Iterations walk through the pool in random order, epoch after epoch, each epoch in an order of its own. No problem
    comes twice in an iteration, not where it spans two epochs either. A pool of fewer than `count` problems is taken
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
) -> Iterator[Rollout]:
    """G captions of each problem, grouped, in the order of the problems.

    `policy` is the digest of the policy behind `engine`; `images_base` the folder of the problem table. Raises
    `racro.data.images.BadImage`.
    """
    sampling = Sampling(rollout.group_size, rollout.temperature, rollout.top_p, rollout.max_tokens, deadline)
    seeds = [prompt_seed(seed, "caption", iteration, problem.uid) for problem in problems]
    generations = engine.generate(Prompts(problems, images_base, caption_messages), sampling, seeds)
    for done, (problem, generation) in enumerate(zip(problems, generations, strict=True), 1):
        for sample, completion in enumerate(generation.completions):
            yield Rollout(
                uid=problem.uid,
                sample=sample,
                policy=policy,
                prompt_ids=generation.prompt_ids,
                completion_ids=completion.token_ids,
                logprobs=completion.logprobs,
                finish_reason=completion.finish_reason,
                caption=completion.text,
            )
        progress(done, len(problems))


class Prompts(Sequence[Prompt]):
    """Prompts whose images are decoded when the engine reads them, so that a stage never holds all of them."""

    def __init__(self, problems: Sequence[Problem], base: str, messages: Callable[[str, int], list[Message]]) -> None:
        self.problems, self.base, self.messages = problems, base, messages

    def __len__(self) -> int:
        return len(self.problems)

    @overload
    def __getitem__(self, index: int) -> Prompt: ...
    @overload
    def __getitem__(self, index: slice) -> Prompts: ...
    def __getitem__(self, index: int | slice) -> Prompt | Prompts:
        if isinstance(index, slice):
            return Prompts(self.problems[index], self.base, self.messages)
        problem = self.problems[index]
        images = tuple(open_image(ref, self.base) for ref in problem.images)
        return Prompt(self.messages(problem.question, len(images)), images)
