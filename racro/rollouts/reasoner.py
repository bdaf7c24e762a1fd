"""What is the frozen LLM asked about a caption, and how?

Not an engine, and not what an answer is worth (`racro.rewards.answer`). Called by that reward, and by everything else
that asks the reasoner about a caption.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from racro import config
from racro.engines.protocol import Completion, Engine, Generation, Prompt, Refusal, Request, Sampling, prompt_seed
from racro.prompts import reasoner_messages
from racro.rollouts.captioner import Progress, missing, silent
from racro.schema import FinishReason

UNANSWERED = Completion((), (), "", "deadline")
"""Stands for an answer that there is not: the caption was not finished in time, or the reasoner refused it."""
NO_CAPTION = Completion((), (), "", "length")
"""Stands for an answer that there is not: the token limit came before the caption began."""


def question_to(question: str, caption: str, sampling: Sampling, seed: int, key: int = 0) -> Request:
    """What the reasoner is asked. The request's seed comes from the content: the answer depends on nothing else."""
    own = prompt_seed(seed, "reason", question, caption)
    return Request(key, Prompt(reasoner_messages(question, caption)), sampling, own)


def answer(
    pairs: Sequence[tuple[str, str]], engine: Engine, sampling: Sampling, seed: int, progress: Progress = silent
) -> dict[tuple[str, str], Completion | Refusal]:
    """The answer to each different (question, caption), or why the engine refuses it."""
    unique = list(dict.fromkeys(pairs))
    requests = (question_to(*pair, sampling, seed, key) for key, pair in enumerate(unique))
    return {unique[made.key]: one(made) for made in watched(engine.generate(requests), len(unique), progress)}


def one(made: Generation | Refusal) -> Completion | Refusal:
    """The only completion of a generation with n = 1; a refusal as it is."""
    return made if isinstance(made, Refusal) else made.completions[0]


def watched(answers: Iterator[Generation | Refusal], total: int, progress: Progress) -> Iterator[Generation | Refusal]:
    """The answers; `progress` is told of each."""
    for done, made in enumerate(answers, 1):
        yield made
        progress(done, total)


def no_question(caption: str, finish_reason: FinishReason) -> Completion | None:
    """What stands for the answer from a caption about which the reasoner is not asked; None if it is asked."""
    if finish_reason == "deadline":
        return UNANSWERED
    return NO_CAPTION if missing(caption, finish_reason) else None


def training_sampling(reasoner: config.Reasoner, seed: int, iteration: int, deadline: float) -> tuple[Sampling, int]:
    """How the reasoner is sampled in one iteration, and the seed of its questions."""
    sampling = Sampling(1, reasoner.temperature, reasoner.top_p, reasoner.max_tokens, deadline)
    return sampling, prompt_seed(seed, "iteration", iteration)
