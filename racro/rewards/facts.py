"""Reward `facts` (Perception-R1, arXiv 2506.07218): how much of what is known about the image does the caption state?

A text-only judge compares caption and facts, all facts of a caption in one answer. In the embedded world the scene is
known, and no model is needed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from racro import config
from racro.embedded import checks
from racro.engines.protocol import Prompt, prompt_seed
from racro.rewards.judging import Ask, NoJudgement, judgements, text_of, texts, unasked
from racro.rewards.protocol import Case, Kind, Means, Value
from racro.rewards.wording import FACTS_DIGEST, facts_messages
from racro.schema import ImageFact, Problem

MAX_TOKENS = 128
PER_FACT = 4
"""Tokens of an answer for each fact of a long list."""
_DIGITS = re.compile(r"[\s,;|/]*(?:[01][\s,;|/]*)+\.?\s*")
NO_FACTS = Value(None, "no facts", fault="no_facts")


class Facts(Kind[config.FactsReward]):
    """Sum of the weights of the stated facts / sum of all weights; None without facts or without a judgement."""

    version = 2
    prompts = FACTS_DIGEST
    needs = frozenset(("gate", "judges"))
    remedy = "give more problems facts (problems.columns.facts), or look at what the judge answers"

    def score(self, cases: Sequence[Case], means: Means) -> Iterator[Value]:
        """The values. Progress counts unique captions."""
        asked = {text: problem for text, problem in texts(cases).items() if facts(problem)}
        found: list[tuple[bool, ...] | NoJudgement]
        if self.settings.by == "scene":
            found = [checks.stated(caption, problem.scene or "") for (_, caption), problem in asked.items()]
        else:
            asks = [_ask(problem, caption, means) for (_, caption), problem in asked.items()]
            longest = max((len(facts(problem)) for problem in asked.values()), default=0)
            room = max(MAX_TOKENS, PER_FACT * longest)
            found = judgements(means.judges["judge"], asks, 0.0, room, means, again=True)
        judged = dict(zip(asked, found, strict=True))
        for case in cases:
            stated = judged.get(text_of(case))
            if (stand_in := unasked(case)) is not None:
                yield stand_in
            elif stated is None:
                yield NO_FACTS
            else:
                yield stated.value if isinstance(stated, NoJudgement) else worth(stated, facts(case.problem))


def facts(problem: Problem) -> Sequence[ImageFact]:
    """What is known about a problem's images: its own facts, or those of its scene."""
    return problem.facts or (checks.facts(problem.scene) if problem.scene else ())


def worth(stated: Sequence[bool], known: Sequence[ImageFact]) -> Value:
    """The weighted share, and how many facts are stated."""
    earned = math.fsum(fact.weight for fact, is_stated in zip(known, stated, strict=True) if is_stated)
    return Value(earned / math.fsum(fact.weight for fact in known), f"{sum(stated)} of {len(known)} facts")


def digits(text: str, count: int) -> tuple[bool, ...] | None:
    """The digits of an answer that consists of exactly `count` digits 0 or 1; None for any other answer."""
    found = re.findall(r"[01]", text) if _DIGITS.fullmatch(text) else []
    return tuple(digit == "1" for digit in found) if len(found) == count else None


def _ask(problem: Problem, caption: str, means: Means) -> Ask[tuple[bool, ...]]:
    known = [fact.text for fact in facts(problem)]
    return Ask(
        problem,
        lambda again: Prompt(facts_messages(caption, known, again)),
        lambda text: digits(text, len(known)),
        prompt_seed(means.seed, "facts", means.iteration, problem.uid, caption),
    )
