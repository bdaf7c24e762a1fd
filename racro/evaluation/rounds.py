"""What the modes vote, best, clues and check ask between caption and answer; nothing is graded here.

Called by the stages of `tasks.rounds` and by `racro.answering.rounds`.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from racro.engines.protocol import Engine, Prompt, Refusal, Request, Sampling, prompt_seed
from racro.evaluation.modes import answer, as_json, outputs
from racro.prompts import (
    Message,
    ask_clues_messages,
    caption_again_messages,
    caption_messages,
    clue_messages,
)
from racro.rewards.choosing import favourite
from racro.rollouts.captioner import Progress, group_of, silent
from racro.rollouts.checks import missing
from racro.rollouts.clues import dialogue, sub_questions
from racro.rollouts.looking import Asked, Look, look
from racro.rollouts.reasoner import no_question
from racro.rollouts.thoughts import spoken
from racro.schema import ModelOutput, Problem, Rollout

AskedOf = Callable[[Problem], Asked]
"""Where the images of a question come from: `racro.rollouts.looking.asked_of` for tables."""


def sample_captions(
    questions: Sequence[Problem],
    asked_of: AskedOf,
    policy: str,
    engine: Engine,
    sampling: Sampling,
    seed: int,
    progress: Progress = silent,
) -> Iterator[tuple[list[ModelOutput], list[Rollout]]]:
    """`sampling.n` captions of each question, in any order of the questions: as rows, and as rewards read them.

    `policy`: the digest of the model behind `engine`. A question that is refused has one row and no rollouts.
    """
    looks = [
        Look(
            asked_of(question),
            functools.partial(caption_messages, question.question),
            prompt_seed(seed, "samples", question.uid, question.question),
        )
        for question in questions
    ]
    for done, made in enumerate(look(looks, engine, sampling), 1):
        question = questions[made.key]
        rollouts = [] if isinstance(made, Refusal) else group_of(question, policy, made)
        yield list(outputs(question.uid, _messages(looks[made.key], question), made)), rollouts
        progress(done, len(looks))


def favourites(
    rows: Sequence[ModelOutput], rollouts: Sequence[Rollout], values: Sequence[float | None]
) -> Iterator[ModelOutput]:
    """The row of each question whose rollout has the largest value (`favourite`). A refused question keeps its row."""
    known = {(rollout.uid, rollout.sample): value for rollout, value in zip(rollouts, values, strict=True)}
    for uid, group in groupby(rows, lambda row: row.uid):
        captions = list(group)
        chosen = captions[favourite([known.get((uid, row.sample)) for row in captions])]
        yield chosen.model_copy(update={"sample": 0})


def _messages(one: Look, question: Problem) -> list[Message]:
    try:
        return one.messages(len(question.images))
    except ValueError:  # placeholders without images; the refusal says so
        return []


# --- clues ------------------------------------------------------------------------------------------------------------


def ask_clues(
    questions: Sequence[Problem],
    captions: Sequence[ModelOutput],
    count: int,
    engine: Engine,
    sampling: Sampling,
    seed: int,
    progress: Progress = silent,
) -> list[ModelOutput]:
    """The reasoner's sub-questions to each question, as one text. Not asked, and empty, where there is no caption."""
    prompts = {
        i: ask_clues_messages(question.question, spoken(caption.text), count)
        for i, (question, caption) in enumerate(zip(questions, captions, strict=True))
        if no_question(spoken(caption.text), caption.finish_reason) is None
    }
    requests = [
        Request(i, Prompt(messages), sampling, prompt_seed(seed, "ask clues", as_json(messages)))
        for i, messages in prompts.items()
    ]
    asked: dict[int, ModelOutput] = {}
    for made in engine.generate(requests):
        [asked[made.key]] = outputs(questions[made.key].uid, prompts[made.key], made)
        progress(len(asked), len(requests))
    return [asked[i] if i in asked else _nothing(question.uid) for i, question in enumerate(questions)]


def answer_clues(
    questions: Sequence[Problem],
    asked_of: AskedOf,
    asked: Sequence[ModelOutput],
    count: int,
    engine: Engine,
    sampling: Sampling,
    progress: Progress = silent,
) -> list[ModelOutput]:
    """The captioner's answers to the sub-questions: of each question one text, which holds both.

    An answer that is refused or late is left out: it costs its sub-question only.
    """
    clues = [(i, clue) for i, row in enumerate(asked) for clue in sub_questions(_whole_lines(row), count)]
    looks = [
        Look(asked_of(questions[i])._replace(question=clue), functools.partial(clue_messages, clue))
        for i, clue in clues
    ]
    rows: dict[int, ModelOutput] = {}
    for done, made in enumerate(look(looks, engine, sampling), 1):
        place, clue = clues[made.key]
        question = questions[place]
        [rows[made.key]] = outputs(question.uid, clue_messages(clue, len(question.images)), made)
        progress(done, len(looks))
    found: dict[int, list[tuple[str, ModelOutput]]] = defaultdict(list)
    for key, (place, clue) in enumerate(clues):
        if rows[key].finish_reason != "deadline" and spoken(rows[key].text).strip():
            found[place].append((clue, rows[key]))
    return [
        _nothing(question.uid).model_copy(
            update={
                "prompt": f"[{', '.join(row.prompt[1:-1] for _, row in found[i])}]",
                "text": dialogue((clue, spoken(row.text).strip()) for clue, row in found[i]),
                "tokens": sum(row.tokens for _, row in found[i]),
            }
        )
        for i, question in enumerate(questions)
    ]


def _whole_lines(asked: ModelOutput) -> str:
    """The sub-questions without one that was cut in the middle."""
    return asked.text if asked.finish_reason == "stop" else asked.text.rpartition("\n")[0]


# --- check ------------------------------------------------------------------------------------------------------------


def lacking(questions: Sequence[Problem], checked: Iterable[ModelOutput]) -> dict[str, str]:
    """What the reasoner misses in the caption, by the questions whose first answer says so."""
    first = {row.uid: missing(row.text) for row in checked if row.sample == 0}
    return {q.uid: said for q in questions if (said := first[q.uid]) is not None}


def caption_again(
    questions: Sequence[Problem],
    asked_of: AskedOf,
    checked: Sequence[ModelOutput],
    engine: Engine,
    sampling: Sampling,
    progress: Progress = silent,
) -> list[ModelOutput]:
    """A second caption where the first answer says what is missing; an empty text for every other question."""
    said = lacking(questions, checked)
    again = [question for question in questions if question.uid in said]
    looks = [
        Look(
            asked_of(question),
            functools.partial(caption_again_messages, question.question, said[question.uid]),
        )
        for question in again
    ]
    rows: dict[str, ModelOutput] = {}
    for done, made in enumerate(look(looks, engine, sampling), 1):
        question = again[made.key]
        [rows[question.uid]] = outputs(question.uid, _messages(looks[made.key], question), made)
        progress(done, len(looks))
    return [rows.get(question.uid) or _nothing(question.uid) for question in questions]


def answer_again(
    questions: Sequence[Problem],
    captions: Sequence[ModelOutput],
    again: Sequence[ModelOutput],
    checked: Sequence[ModelOutput],
    engine: Engine,
    sampling: Sampling,
    seed: int,
    progress: Progress = silent,
) -> Iterator[ModelOutput]:
    """The final answers: those from both captions where there are two, otherwise those that stand."""
    said = lacking(questions, checked)
    asked = [question for question in questions if question.uid in said]
    pairs = [[row for row in rows if row.uid in said] for rows in (captions, again)]
    answers = answer("check", asked, pairs[0], pairs[1], engine, sampling, seed, progress) if asked else iter(())
    yield from (row for row in checked if row.uid not in said)
    yield from answers


def _nothing(uid: str) -> ModelOutput:
    """A text that was not needed."""
    return ModelOutput(uid=uid, sample=0, prompt="[]", text="", tokens=0, finish_reason="stop", error=None)
