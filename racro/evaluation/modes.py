"""Questions -> what captioner and reasoner write about them, in one of the modes of an evaluation.

Only asks the models: grading is `racro.evaluation.results`, prompts are `racro.prompts`. What the modes vote, best,
clues and check ask between caption and answer is `racro.evaluation.rounds`. Called by the stages describe, attempt and
answer.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from racro.engines.protocol import Engine, Generation, Refusal, Sampling
from racro.prompts import Message
from racro.rollouts.captioner import Progress, ask, missing, silent
from racro.rollouts.final import final_request
from racro.rollouts.thoughts import spoken
from racro.schema import Mode, ModelOutput, Problem, Shot

SAMPLED: tuple[Mode, ...] = ("vote", "best")
"""Modes that need several sampled captions."""
CAPTIONED: tuple[Mode, ...] = ("caption", "joint", "clues", "shots", "check")
"""Modes that need the greedy caption."""
ATTEMPTED: tuple[Mode, ...] = ("direct", "joint")
"""Modes that need the captioner's own answer."""
REASONED: tuple[Mode, ...] = ("caption", "joint", "text", *SAMPLED, "clues", "shots", "check")
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
        yield from outputs(question.uid, _asked(messages, question), made)
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
    shots: Sequence[Shot] = (),
) -> Iterator[ModelOutput]:
    """The reasoner's `sampling.n` answers to each question, in order. Equal prompts are asked once.

    `captions` and `attempts` hold one row per question where the mode needs them, otherwise none; of a question with
    several captions, each is answered, and samples are numbered through. The reasoner does not see their thoughts, and
    is not asked where one of them is unfinished. Seeds come from the content: an answer depends on no other question.
    """
    given = [_by_uid(rows) for rows in (captions, attempts) if rows]
    asked = [(q, list(zip(*(rows[q.uid] for rows in given), strict=True)) if given else [()]) for q in questions]
    texts_A = [(q, number, row) for q, rows in asked for number, row in enumerate(rows)]
    inputs_A = [(q.question, *(spoken(text.text) for text in row)) for q, _, row in texts_A]
    lost_A = [_lost(mode, row) for _, _, row in texts_A]
    unique = list(dict.fromkeys(inputs for inputs, lost in zip(inputs_A, lost_A, strict=True) if lost is None))
    requests = [final_request(mode, inputs, sampling, seed, key, shots) for key, inputs in enumerate(unique)]
    made: dict[tuple[str, ...], Generation | Refusal] = {}
    for answered in engine.generate(requests):
        made[unique[answered.key]] = answered
        progress(len(made), len(unique))
    messages = {inputs: asked.prompt.messages for inputs, asked in zip(unique, requests, strict=True)}
    for (question, number, _), inputs, lost in zip(texts_A, inputs_A, lost_A, strict=True):
        first = number * sampling.n
        if lost is not None:
            yield lost.model_copy(update={"sample": first, "prompt": as_json([]), "text": "", "tokens": 0})
        else:
            yield from outputs(question.uid, messages[inputs], made[inputs], first)


def _by_uid(rows: Iterable[ModelOutput]) -> dict[str, list[ModelOutput]]:
    found: dict[str, list[ModelOutput]] = defaultdict(list)
    for row in rows:
        found[row.uid].append(row)
    return found


def _lost(mode: Mode, texts: tuple[ModelOutput, ...]) -> ModelOutput | None:
    """What stands for the answer if the captioner did not finish; None if the reasoner is asked.

    A caption that did not begin before its token limit counts as an answer that was cut there.
    """
    late = next((text for text in texts if text.finish_reason == "deadline"), None)
    if late is not None:
        return late.model_copy(update={"error": late.error or "the captioner ran out of time"})
    if mode not in ("joint", "text") and missing(spoken(texts[0].text), texts[0].finish_reason):
        return texts[0]
    return None


def outputs(uid: str, messages: list[Message], made: Generation | Refusal, first: int = 0) -> Iterator[ModelOutput]:
    """What an engine made as rows, the samples numbered from `first`; a refusal is one row."""
    if isinstance(made, Refusal):
        yield unasked(uid, messages, made.reason, first)
        return
    for sample, completion in enumerate(made.completions, first):
        yield ModelOutput(
            uid=uid,
            sample=sample,
            prompt=as_json(messages),
            text=completion.text,
            tokens=len(completion.token_ids),
            finish_reason=completion.finish_reason,
            error=None,
        )


def unasked(uid: str, messages: list[Message], why: str, sample: int = 0) -> ModelOutput:
    """The row of a question that a model was not asked, or refused."""
    return ModelOutput(
        uid=uid, sample=sample, prompt=as_json(messages), text="", tokens=0, finish_reason="deadline", error=why
    )


def as_json(messages: list[Message]) -> str:
    """Messages as they stand in rows."""
    return json.dumps(messages, ensure_ascii=False)
