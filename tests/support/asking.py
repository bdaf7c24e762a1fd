"""Prompts asked of an engine, and its answers in the order of the prompts. Used by the tests of engines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from racro.engines.protocol import Engine, Generation, Prompt, Refusal, Request, Sampling


def requests(prompts: Iterable[Prompt], sampling: Sampling, seeds: Iterable[int]) -> Iterator[Request]:
    """One request per seed, numbered from 0, read lazily."""
    for key, (seed, prompt) in enumerate(zip(seeds, prompts, strict=False)):
        yield Request(key, prompt, sampling, seed)


def answers(
    engine: Engine, prompts: Iterable[Prompt], sampling: Sampling, seeds: Iterable[int]
) -> list[Generation | Refusal]:
    """The answers in order; each request must have exactly one."""
    asked = list(requests(prompts, sampling, seeds))
    made = sorted(engine.generate(asked), key=lambda answer: answer.key)
    assert [answer.key for answer in made] == [request.key for request in asked]
    return made


def generations(
    engine: Engine, prompts: Iterable[Prompt], sampling: Sampling, seeds: Iterable[int]
) -> list[Generation]:
    """The same where nothing may be refused."""
    made = answers(engine, prompts, sampling, seeds)
    assert not [answer for answer in made if isinstance(answer, Refusal)]
    return [answer for answer in made if isinstance(answer, Generation)]


def refusal(engine: Engine, prompt: Prompt, sampling: Sampling) -> str:
    """The reason for which a prompt is refused; one line."""
    [answer] = answers(engine, [prompt], sampling, [0])
    assert isinstance(answer, Refusal) and "\n" not in answer.reason
    return answer.reason
