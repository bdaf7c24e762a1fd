"""Reward `mcq` (CapRL, arXiv 2509.22647): can a text-only judge answer questions about the image from the caption?

All captions of a problem get the same questions with the same order of options, so that they are compared fairly. A
last option, which is never shuffled, says that the caption does not tell.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from racro import config
from racro.embedded import checks
from racro.engines.protocol import Prompt, prompt_seed
from racro.rewards.judging import Ask, NoJudgement, judgements, text_of, texts, unasked
from racro.rewards.protocol import Case, Kind, Means, Value
from racro.rewards.wording import LEAD, LETTERS, MCQ_DIGEST, mcq_messages
from racro.schema import ChoiceQuestion, Problem

TEMPERATURE, MAX_TOKENS = 0.6, 10
"""CapRL's; a letter needs no more."""
_LETTER = re.compile(
    r"[\W_]*(?:(?:the )?(?:correct )?answer is\W*)?(?:option )?\W*((?-i:[A-Za-z]))"
    r"(?=$|[.,:;)\]*\n]|\s+(?:because|since|as|is)\b)",
    re.I,
)
_LATER = re.compile(r"\(([A-Z])\)|\b([B-HJ-Z])\b")
"""A letter further on. A and I are words too."""


class Round(NamedTuple):
    """A question as it is asked: which one, and in which order its options stand."""

    number: int
    order: tuple[int, ...]


class Mcq(Kind[config.McqReward]):
    """Share of right answers among those that were given; None without any answer, or without questions."""

    version = 2
    prompts = MCQ_DIGEST
    needs = frozenset(("gate", "judges"))
    remedy = "give more problems questions (problems.columns.mcq), or look at what the judge answers"

    def score(self, cases: Sequence[Case], means: Means) -> Iterator[Value]:
        """The values. Progress counts answers."""
        asked = texts(cases)
        drawn = {
            problem.uid: rounds(len(quiz(problem)), self.settings.rounds, problem, means.seed, means.iteration)
            for problem in asked.values()
        }
        plan = [(text, problem, r) for text, problem in asked.items() for r in drawn[problem.uid]]
        if self.settings.by == "scene":
            answers: list[bool | NoJudgement] = [_stated(problem, text[1], r) for text, problem, r in plan]
        else:
            asks = [_ask(problem, text[1], r, turn, means) for turn, (text, problem, r) in enumerate(plan)]
            answers = judgements(means.judges["judge"], asks, TEMPERATURE, MAX_TOKENS, means)
        found: dict[tuple[str, str], list[bool | NoJudgement]] = {text: [] for text in asked}
        for (text, _, _), answer in zip(plan, answers, strict=True):
            found[text].append(answer)
        for case in cases:
            yield unasked(case) or _value(found[text_of(case)])


def quiz(problem: Problem) -> Sequence[ChoiceQuestion]:
    """The questions about a problem's images: its own, or those of its scene."""
    return problem.mcq or (checks.quiz(problem.scene) if problem.scene else ())


def rounds(questions: int, count: int, problem: Problem, seed: int, iteration: int) -> list[Round]:
    """Which questions are asked, the same for the whole group: without replacement, then all over again."""
    rng = random.Random(f"mcq:{seed}:{iteration}:{problem.uid}")
    numbers: list[int] = []
    while questions and len(numbers) < count:
        numbers += rng.sample(range(questions), questions)
    options = [len(question.options) for question in quiz(problem)]
    return [Round(n, tuple(rng.sample(range(options[n]), options[n]))) for n in numbers[:count]]


def letter(text: str, options: int) -> int | None:
    """The number, from 0, of the option that an answer names by its letter; None if it names none of them."""
    found = _LETTER.match(text.strip()) or _LATER.search(text)
    if found is None:
        return None
    place = LETTERS.index((found[1] or found[2]).upper())
    return place if place < options else None


def _ask(problem: Problem, caption: str, drawn: Round, turn: int, means: Means) -> Ask[bool]:
    question = quiz(problem)[drawn.number]
    messages = mcq_messages(caption, question.question, [question.options[i] for i in drawn.order])
    right = drawn.order.index(question.answer)
    seed = prompt_seed(means.seed, "mcq", means.iteration, problem.uid, drawn.number, *drawn.order, caption)

    def read(text: str) -> bool | None:
        named = letter(text, len(drawn.order) + 1)
        return None if named is None else named == right

    return Ask(problem, partial(_prompt, messages), read, seed)


def _prompt(messages: list[dict[str, object]], again: bool) -> Prompt:
    return Prompt(messages, lead=LEAD)


def _stated(problem: Problem, caption: str, drawn: Round) -> bool | NoJudgement:
    assert problem.scene
    return checks.stated(caption, problem.scene)[drawn.number]


def _value(answers: Sequence[bool | NoJudgement]) -> Value:
    given = [answer for answer in answers if not isinstance(answer, NoJudgement)]
    if not answers:
        return Value(None, "no questions", fault="no_questions")
    if not given:
        return next(answer for answer in answers if isinstance(answer, NoJudgement)).value
    missing = len(answers) - len(given)
    detail = f"{sum(given)} of {len(given)} right" + (f", {missing} without an answer" if missing else "")
    return Value(sum(given) / len(given), detail)
