"""Reward `correctness` (CCCaption, arXiv 2602.21655): how much of what the caption says is true of the image?

One judge splits the caption into claims, another one, which sees the image, says of each whether it is true. An overall
mark is never asked for: it rewards length or brevity. In the embedded world the scene is known, and no model is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial

from racro import config
from racro.data.images import open_image
from racro.embedded.oracle import inspect
from racro.engines.protocol import Prompt, prompt_seed
from racro.rewards.judging import Ask, NoJudgement, judgements, text_of, texts, unasked
from racro.rewards.protocol import Case, Kind, Means, Value
from racro.rewards.wording import CORRECTNESS_DIGEST, split_messages, verify_messages
from racro.schema import Problem

MAX_TOKENS = 1024
_BULLET = re.compile(r"\s*(?:[-*•]|\(?\d+[.):])?\s*")
_VERDICT = re.compile(
    r"\b(?:(?P<invisible>not[ _-]visible|invisible)|(?P<unclear>not\s+(?:\w+\s+)?false)"
    r"|(?P<false>(?:not|isn.t)\s+(?:\w+\s+)?true|untrue|false)|(?P<true>true))\b",
    re.IGNORECASE,
)
_WORDS = {"invisible": "not visible", "false": "false", "true": "true", "unclear": "unclear"}

Claims = tuple[str, ...]


class Correctness(Kind[config.CorrectnessReward]):
    """Share of true claims; 0 for a caption without claims, None without a judgement."""

    version = 2
    prompts = CORRECTNESS_DIGEST
    needs = frozenset(("gate", "judges"))
    blind = True
    remedy = "look at what the judges answer, or raise their max_tokens"

    def score(self, cases: Sequence[Case], means: Means) -> Iterator[Value]:
        """The values. Progress counts unique captions, twice."""
        asked = texts(cases)
        if self.settings.by == "scene":
            found = {text: _seen(problem, text[1]) for text, problem in asked.items()}
        else:
            found = self._judged(asked, means)
        for case in cases:
            yield unasked(case) or found[text_of(case)]

    def _judged(self, asked: dict[tuple[str, str], Problem], means: Means) -> dict[tuple[str, str], Value]:
        most = self.settings.claims
        splits: list[Ask[Claims]] = [
            Ask(
                problem,
                partial(_split, caption, most),
                lambda text: claims(text, most),
                prompt_seed(means.seed, "split", means.iteration, problem.uid, caption),
            )
            for (_, caption), problem in asked.items()
        ]
        claimed = dict(zip(asked, judgements(means.judges["splitter"], splits, 0.0, MAX_TOKENS, means), strict=True))
        told = {text: own for text, own in claimed.items() if not isinstance(own, NoJudgement) and own}
        checks = [self._check(asked[text], text[1], own, means) for text, own in told.items()]
        verdicts = judgements(means.judges["judge"], checks, 0.0, MAX_TOKENS, means, again=True)
        values = {text: own.value for text, own in claimed.items() if isinstance(own, NoJudgement)}
        values |= {text: Value(0.0, "no claims") for text, own in claimed.items() if own == ()}
        for text, verdict in zip(told, verdicts, strict=True):
            values[text] = verdict.value if isinstance(verdict, NoJudgement) else worth(verdict)
        return values

    def _check(self, problem: Problem, caption: str, own: Claims, means: Means) -> Ask[tuple[str, ...]]:
        def prompt(again: bool) -> Prompt:
            images = tuple(open_image(ref, means.images) for ref in problem.images)
            return Prompt(verify_messages(own, len(images), again), images)

        seed = prompt_seed(means.seed, "verify", means.iteration, problem.uid, caption)
        return Ask(problem, prompt, lambda text: verdicts_in(text, len(own)), seed)


def claims(text: str, most: int) -> Claims | None:
    """The claims in a splitter's answer, one per line; empty if it says that there is none, None for no answer."""
    lines = [line for raw in text.splitlines() if (line := _BULLET.sub("", raw, count=1).strip())]
    if lines and lines[0].lower().strip(" .:") in ("none", "no claims"):
        return ()
    return tuple(lines[:most]) or None


def verdicts_in(text: str, count: int) -> tuple[str, ...] | None:
    """true, false or not visible for each claim; None if the answer does not have exactly `count` of them.

    "not true" is false. Of a line for each claim, each must say one thing.
    """
    told = [[_WORDS[str(m.lastgroup)] for m in _VERDICT.finditer(line)] for line in text.splitlines()]
    lines = [set(own) for own in told if own]
    if len(lines) == count and all(len(own) == 1 for own in lines):
        found = [own.pop() for own in lines]
    else:
        found = [word for own in told for word in own]
    return tuple(found) if len(found) == count and "unclear" not in found else None


def worth(verdicts: Sequence[str]) -> Value:
    """The share of true claims, and how many there are of each."""
    counts = ", ".join(f"{verdicts.count(word)} {word}" for word in ("true", "false", "not visible"))
    return Value(verdicts.count("true") / len(verdicts), counts)


def _split(caption: str, most: int, again: bool) -> Prompt:
    return Prompt(split_messages(caption, most))


def _seen(problem: Problem, caption: str) -> Value:
    assert problem.scene
    known = inspect(caption, problem.scene)
    if not known.stated:
        return Value(0.0, "no claims")
    return Value(known.true / known.stated, f"{known.true} true, {known.stated - known.true} false")
