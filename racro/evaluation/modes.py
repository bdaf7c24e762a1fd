"""Questions -> what captioner and reasoner write about them, in one of the four modes of an evaluation.

Only asks: grading is `racro.evaluation.results`, prompts are `racro.prompts`. Called by the stages describe, attempt
and answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

from racro.engines.protocol import Engine, Generation, Prompt, Refusal, Request, Sampling, prompt_seed
from racro.prompts import Message, joint_messages, text_messages
from racro.rollouts.captioner import Progress, request, silent
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
    written: dict[int, list[Writing]] = {}

    def write(made: Generation | Refusal) -> None:
        question = questions[made.key]
        written[made.key] = list(_writings(question.uid, _asked(messages, question), made))

    def readable() -> Iterator[Request]:
        for key, question in enumerate(questions):
            try:
                asked = request(key, question, images_base, messages, sampling, 0)
            except ValueError as error:  # an image that cannot be read, placeholders without images
                write(Refusal(key, str(error)))
            else:
                yield asked

    for made in engine.generate(readable()):
        write(made)
        progress(len(written), len(questions))
    for key in range(len(questions)):
        yield from written[key]


def _asked(messages: Callable[[str, int], list[Message]], question: Problem) -> list[Message]:
    try:
        return messages(question.question, len(question.images))
    except ValueError:  # placeholders without images; the refusal says so
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
    requests = [_request(mode, text, sampling, seed, key) for key, text in enumerate(unique)]
    made: dict[tuple[str, ...], Generation | Refusal] = {}
    for answered in engine.generate(requests):
        made[unique[answered.key]] = answered
        progress(len(made), len(unique))
    asked = {text: request.prompt.messages for text, request in zip(unique, requests, strict=True)}
    for question, text, lost in zip(questions, texts, missing, strict=True):
        if lost is not None:
            yield _unasked(question.uid, [], lost.error or "the captioner ran out of time")
        else:
            yield from _writings(question.uid, asked[text], made[text])


def _request(mode: Mode, text: tuple[str, ...], sampling: Sampling, seed: int, key: int) -> Request:
    """What the reasoner is asked; `text` is the question with the looks that the mode needs."""
    if mode == "caption":
        question, caption = text
        return question_to(question, caption, sampling, seed, key)
    messages = joint_messages(*text) if mode == "joint" else text_messages(*text)
    return Request(key, Prompt(messages), sampling, prompt_seed(seed, mode, *text))


def _writings(uid: str, messages: list[Message], made: Generation | Refusal) -> Iterator[Writing]:
    if isinstance(made, Refusal):
        yield _unasked(uid, messages, made.reason)
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
