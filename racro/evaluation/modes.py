"""Questions -> what captioner and reasoner write about them, in one of the four modes of an evaluation.

Only asks: grading is `racro.evaluation.results`, prompts are `racro.prompts`. Called by the stages describe, attempt
and answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

from racro.engines.protocol import Engine, Generation, Prompt, Sampling, prompt_seed
from racro.engines.refusals import each
from racro.errors import BadInput
from racro.prompts import Message, joint_messages, text_messages
from racro.rollouts.captioner import Progress, Prompts, silent
from racro.rollouts.reasoner import question_to
from racro.rollouts.thoughts import spoken
from racro.schema import Mode, Problem, Writing

CAPTIONED: tuple[Mode, ...] = ("caption", "joint")
"""Modes that need a caption."""
ATTEMPTED: tuple[Mode, ...] = ("direct", "joint")
"""Modes that need the captioner's own answer."""
REASONED: tuple[Mode, ...] = ("caption", "joint", "text")
"""Modes in which the reasoner answers."""


def look(
    questions: Sequence[Problem],
    images_base: str,
    engine: Engine,
    messages: Callable[[str, int], list[Message]],
    max_tokens: int,
    deadline: float,
    progress: Progress = silent,
) -> Iterator[Writing]:
    """The captioner's likeliest text on each question, in order: a caption or an answer, as `messages` asks for."""
    sampling = Sampling(n=1, temperature=0.0, max_tokens=max_tokens, deadline=deadline)
    prompts = Prompts(questions, images_base, messages)
    asked = zip(questions, each(engine, prompts, sampling, [0] * len(questions)), strict=True)
    for done, (question, made) in enumerate(asked, 1):
        yield from _writings(question.uid, _asked(messages, question), made)
        progress(done, len(questions))


def _asked(messages: Callable[[str, int], list[Message]], question: Problem) -> list[Message]:
    try:
        return messages(question.question, len(question.images))
    except ValueError:  # placeholders without images; the engine's refusal says so
        return []


def answer(
    mode: Mode,
    questions: Sequence[Problem],
    captions: Sequence[Writing],
    attempts: Sequence[Writing],
    engine: Engine,
    sampling: Sampling,
    seed: int,
    progress: Progress = silent,
) -> Iterator[Writing]:
    """The reasoner's `sampling.n` answers to each question, in order. Equal prompts are asked once.

    `captions` and `attempts`: one to a question where the mode needs them, else empty. Where one of them could not be
    finished the reasoner is not asked. Seeds come from the content: an answer does not depend on what else is asked.
    """
    looks = [tuple(row) for row in zip(*(rows for rows in (captions, attempts) if rows), strict=True)]
    looks = looks or [() for _ in questions]
    missing = [next((w for w in row if w.finish_reason == "deadline"), None) for row in looks]
    texts = [(q.question, *(spoken(w.text) for w in row)) for q, row in zip(questions, looks, strict=True)]
    unique = list(dict.fromkeys(text for text, lost in zip(texts, missing, strict=True) if lost is None))
    prompts, seeds = zip(*(_prompt(mode, text, seed) for text in unique), strict=True) if unique else ((), ())
    made: dict[tuple[str, ...], Generation | BadInput] = {}
    for text, generation in zip(unique, each(engine, prompts, sampling, seeds), strict=True):
        made[text] = generation
        progress(len(made), len(unique))
    asked = dict(zip(unique, prompts, strict=True))
    for question, text, lost in zip(questions, texts, missing, strict=True):
        if lost is not None:
            yield _unasked(question.uid, [], lost.error or "the captioner ran out of time")
        else:
            yield from _writings(question.uid, asked[text].messages, made[text])


def _prompt(mode: Mode, text: tuple[str, ...], seed: int) -> tuple[Prompt, int]:
    """The reasoner's prompt and its seed; `text` is the question with the looks that the mode needs."""
    if mode == "caption":
        question, caption = text
        return question_to(question, caption, seed)
    messages = joint_messages(*text) if mode == "joint" else text_messages(*text)
    return Prompt(messages), prompt_seed(seed, mode, *text)


def _writings(uid: str, messages: list[Message], made: Generation | BadInput) -> Iterator[Writing]:
    if isinstance(made, BadInput):
        yield _unasked(uid, messages, str(made))
        return
    for sample, completion in enumerate(made.completions):
        yield Writing(
            uid=uid,
            sample=sample,
            prompt=_json(messages),
            text=completion.text,
            tokens=len(completion.token_ids),
            finish_reason=completion.finish_reason,
            error=None,
        )


def _unasked(uid: str, messages: list[Message], why: str) -> Writing:
    return Writing(uid=uid, sample=0, prompt=_json(messages), text="", tokens=0, finish_reason="deadline", error=why)


def _json(messages: list[Message]) -> str:
    return json.dumps(messages, ensure_ascii=False)
