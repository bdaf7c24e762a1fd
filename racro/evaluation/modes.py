"""Questions -> what captioner and reasoner write about them, in one of the four modes of an evaluation.

Only asks the models: grading is `racro.evaluation.results`, prompts are `racro.prompts`. Called by the stages describe,
attempt and answer.
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
    """The captioner's likeliest text on each question, in order: a caption or an answer, as `messages` asks for."""
    sampling = Sampling(n=1, temperature=0.0, max_tokens=max_tokens, deadline=deadline)
    prompts = Prompts(questions, images_base, messages)
    asked = zip(questions, each(engine, prompts, sampling, [0] * len(questions)), strict=True)
    for done, (question, generation) in enumerate(asked, 1):
        yield from _outputs(question.uid, _asked(messages, question), generation)
        progress(done, len(questions))


def _asked(messages: Callable[[str, int], list[Message]], question: Problem) -> list[Message]:
    try:
        return messages(question.question, len(question.images))
    except ValueError:  # more placeholders than images; the engine's refusal says so
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

    `captions` and `attempts` hold one row per question where the mode needs them, otherwise none. Where one of them is
    unfinished, the reasoner is not asked. Seeds come from the content: an answer depends on no other question.
    """
    texts_Q = [tuple(row) for row in zip(*(rows for rows in (captions, attempts) if rows), strict=True)]
    texts_Q = texts_Q or [() for _ in questions]
    lost_Q = [next((text for text in row if text.finish_reason == "deadline"), None) for row in texts_Q]
    inputs_Q = [(q.question, *(text.text for text in row)) for q, row in zip(questions, texts_Q, strict=True)]
    unique = list(dict.fromkeys(inputs for inputs, lost in zip(inputs_Q, lost_Q, strict=True) if lost is None))
    asked = {inputs: reasoner_prompt(mode, inputs, seed) for inputs in unique}
    prompts, seeds = [prompt for prompt, _ in asked.values()], [own for _, own in asked.values()]
    generations: dict[tuple[str, ...], Generation | BadInput] = {}
    for inputs, generation in zip(unique, each(engine, prompts, sampling, seeds), strict=True):
        generations[inputs] = generation
        progress(len(generations), len(unique))
    for question, inputs, lost in zip(questions, inputs_Q, lost_Q, strict=True):
        if lost is not None:
            yield _unasked(question.uid, [], lost.error or "the captioner ran out of time")
        else:
            yield from _outputs(question.uid, asked[inputs][0].messages, generations[inputs])


def reasoner_prompt(mode: Mode, inputs: tuple[str, ...], seed: int) -> tuple[Prompt, int]:
    """The reasoner's prompt and its seed. `inputs`: the question, then the captioner's texts that the mode needs."""
    if mode == "caption":
        question, caption = inputs
        return question_to(question, caption, seed)
    messages = joint_messages(*inputs) if mode == "joint" else text_messages(*inputs)
    return Prompt(messages), prompt_seed(seed, mode, *inputs)


def _outputs(uid: str, messages: list[Message], generation: Generation | BadInput) -> Iterator[ModelOutput]:
    if isinstance(generation, BadInput):
        yield _unasked(uid, messages, str(generation))
        return
    for sample, completion in enumerate(generation.completions):
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
