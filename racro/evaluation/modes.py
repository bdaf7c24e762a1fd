"""Questions -> what captioner and reasoner write about them, in one of the four modes of an evaluation.

Only asks the models: grading is `racro.evaluation.results`, prompts are `racro.prompts`. Called by the stages describe,
attempt and answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence

from racro.engines.protocol import Engine, Generation, Prompt, Refusal, Request, Sampling, prompt_seed
from racro.prompts import Message, joint_messages, text_messages
from racro.rollouts.captioner import Progress, ask, missing, silent
from racro.rollouts.reasoner import question_to
from racro.rollouts.thoughts import spoken
from racro.schema import Mode, ModelOutput, Problem

CAPTIONED: tuple[Mode, ...] = ("caption", "joint")
"""Modes that need a caption."""
ATTEMPTED: tuple[Mode, ...] = ("direct", "joint")
"""Modes that need the captioner's own answer."""
REASONED: tuple[Mode, ...] = ("caption", "joint", "text")
"""Modes in which the reasoner answers."""


def captioner_outputs(
    questions: Sequence[Problem],
    images_base: str,
    engine: Engine,
    messages: Callable[[str, int], list[Message]],
    max_tokens: int,
    deadline: float,
    progress: Progress = silent,
) -> Iterator[ModelOutput]:
    """The captioner's likeliest text on each question, as they finish and in any order. See `in_order`.

    It is a caption or an answer, as `messages` asks for.
    """
    sampling = Sampling(n=1, temperature=0.0, max_tokens=max_tokens, deadline=deadline)
    asked = ask(questions, images_base, engine, messages, sampling, lambda question: 0)
    for done, made in enumerate(asked, 1):
        question = questions[made.key]
        yield from _outputs(question.uid, _asked(messages, question), made)
        progress(done, len(questions))


def in_order(outputs: Iterable[ModelOutput], questions: Sequence[Problem]) -> list[ModelOutput]:
    """The outputs in the order of the questions and, of one question, of the samples."""
    places = {question.uid: place for place, question in enumerate(questions)}
    return sorted(outputs, key=lambda output: (places[output.uid], output.sample))


def _asked(messages: Callable[[str, int], list[Message]], question: Problem) -> list[Message]:
    try:
        return messages(question.question, len(question.images))
    except ValueError:  # placeholders without images; the refusal says so
        return []


def answer(
    mode: Mode,
    questions: Sequence[Problem],
    captions: Sequence[ModelOutput],
    attempts: Sequence[ModelOutput],
    engine: Engine,
    sampling: Sampling,
    seed: int,
    progress: Progress = silent,
) -> Iterator[ModelOutput]:
    """The reasoner's `sampling.n` answers to each question, in order. Equal prompts are asked once.

    `captions` and `attempts` hold one row per question where the mode needs them, otherwise none. The reasoner does not
    see their thoughts, and is not asked where one of them is unfinished. Seeds come from the content: an answer depends
    on no other question.
    """
    texts_Q = [tuple(row) for row in zip(*(rows for rows in (captions, attempts) if rows), strict=True)]
    texts_Q = texts_Q or [() for _ in questions]
    inputs_Q = [(q.question, *(spoken(text.text) for text in row)) for q, row in zip(questions, texts_Q, strict=True)]
    lost_Q = [_lost(mode, row) for row in texts_Q]
    unique = list(dict.fromkeys(inputs for inputs, lost in zip(inputs_Q, lost_Q, strict=True) if lost is None))
    requests = [reasoner_request(mode, inputs, sampling, seed, key) for key, inputs in enumerate(unique)]
    made: dict[tuple[str, ...], Generation | Refusal] = {}
    for answered in engine.generate(requests):
        made[unique[answered.key]] = answered
        progress(len(made), len(unique))
    messages = {inputs: asked.prompt.messages for inputs, asked in zip(unique, requests, strict=True)}
    for question, inputs, lost in zip(questions, inputs_Q, lost_Q, strict=True):
        if lost is not None:
            yield lost.model_copy(update={"prompt": _json([]), "text": "", "tokens": 0})
        else:
            yield from _outputs(question.uid, messages[inputs], made[inputs])


def _lost(mode: Mode, texts: tuple[ModelOutput, ...]) -> ModelOutput | None:
    """What stands for the answer if the captioner did not finish; None if the reasoner is asked.

    A caption that did not begin before its token limit counts as an answer that was cut there.
    """
    late = next((text for text in texts if text.finish_reason == "deadline"), None)
    if late is not None:
        return late.model_copy(update={"error": late.error or "the captioner ran out of time"})
    if mode == "caption" and missing(spoken(texts[0].text), texts[0].finish_reason):
        return texts[0]
    return None


def reasoner_request(mode: Mode, inputs: tuple[str, ...], sampling: Sampling, seed: int, key: int = 0) -> Request:
    """What the reasoner is asked. `inputs`: the question, then the captioner's texts that the mode needs."""
    if mode == "caption":
        question, caption = inputs
        return question_to(question, caption, sampling, seed, key)
    messages = joint_messages(*inputs) if mode == "joint" else text_messages(*inputs)
    return Request(key, Prompt(messages), sampling, prompt_seed(seed, mode, *inputs))


def _outputs(uid: str, messages: list[Message], made: Generation | Refusal) -> Iterator[ModelOutput]:
    if isinstance(made, Refusal):
        yield _unasked(uid, messages, made.reason)
        return
    for sample, completion in enumerate(made.completions):
        yield ModelOutput(
            uid=uid,
            sample=sample,
            prompt=_json(messages),
            text=completion.text,
            tokens=len(completion.token_ids),
            finish_reason=completion.finish_reason,
            error=None,
        )


def _unasked(uid: str, messages: list[Message], why: str) -> ModelOutput:
    return ModelOutput(
        uid=uid, sample=0, prompt=_json(messages), text="", tokens=0, finish_reason="deadline", error=why
    )


def _json(messages: list[Message]) -> str:
    return json.dumps(messages, ensure_ascii=False)
