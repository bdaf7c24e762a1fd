"""Asks a judge about captions: one answer for each question, or why there is none.

Not what is asked (`racro.rewards.wording`) and not what it is worth: that is each kind's own. An answer that cannot be
read is asked for once more where its question can be put in other words, and is then no judgement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from racro.engines.protocol import Prompt, Refusal, Request, Sampling
from racro.rewards.protocol import Case, JudgeModel, Means, Value
from racro.rollouts.captioner import missing
from racro.rollouts.reasoner import one
from racro.rollouts.thoughts import spoken
from racro.schema import Problem

V = TypeVar("V")


@dataclass(frozen=True)
class Ask(Generic[V]):
    """A question to a judge about one caption."""

    problem: Problem
    prompt: Callable[[bool], Prompt]
    """The prompt; True: the last answer could not be read. Made when it is sent: images are decoded then."""
    read: Callable[[str], V | None]
    """What an answer means; None if it cannot be read."""
    seed: int


class NoJudgement(NamedTuple):
    """Why there is no judgement."""

    detail: str
    fault: str
    """Name of the metric that counts it."""

    @property
    def value(self) -> Value:
        """The caption's value: none."""
        return Value(None, self.detail, fault=self.fault)


UNREADABLE = NoJudgement("the judge's answer cannot be read", "unreadable")
LATE = NoJudgement("the judge did not answer in time", "late")


def judgements(
    judge: JudgeModel, asks: Sequence[Ask[V]], temperature: float, max_tokens: int, means: Means, again: bool = False
) -> list[V | NoJudgement]:
    """The judge's answer to each question. `temperature`, `max_tokens`: unless the judge has its own.

    `again`: ask once more what could not be read. Refusals are reported.
    """
    own = judge.settings
    sampling = Sampling(
        1,
        temperature if own.temperature is None else own.temperature,
        1.0,
        max_tokens if own.max_tokens is None else own.max_tokens,
        means.deadline,
    )
    found: dict[int, V | NoJudgement] = {}
    places = list(range(len(asks)))
    for repeated in (False, True) if again else (False,):
        for place, made in _asked(judge, asks, places, sampling, repeated, means):
            found[place] = made
        places = [place for place in places if found[place] == UNREADABLE]
        if not places:
            break
    return [found[place] for place in range(len(asks))]


def _asked(
    judge: JudgeModel, asks: Sequence[Ask[V]], places: Sequence[int], sampling: Sampling, again: bool, means: Means
) -> Iterator[tuple[int, V | NoJudgement]]:
    unusable: list[tuple[int, NoJudgement]] = []

    def requests() -> Iterator[Request]:
        for place in places:
            try:
                prompt = asks[place].prompt(again)
            except ValueError as error:  # an image that cannot be read
                means.refused(asks[place].problem, str(error))
                unusable.append((place, NoJudgement("an image cannot be read", "refused")))
            else:
                yield Request(place, prompt, sampling, asks[place].seed)

    for done, made in enumerate(judge.engine.generate(requests()), 1):
        means.progress(done, len(places))
        said = one(made)
        if isinstance(said, Refusal):
            means.refused(asks[made.key].problem, said.reason)
            yield made.key, NoJudgement("the judge refuses the prompt", "refused")
        elif said.finish_reason == "deadline":
            yield made.key, LATE
        else:
            judged = asks[made.key].read(spoken(said.text))
            yield made.key, UNREADABLE if judged is None else judged
    yield from unusable


def unasked(case: Case) -> Value | None:
    """What stands for the value of a caption about which nobody is asked; None if somebody is."""
    if not case.gate:
        return Value(None, "not asked")
    if case.rollout.finish_reason == "deadline":
        return Value(None, "cut by the deadline")
    if missing(case.rollout.caption, case.rollout.finish_reason):
        return Value(0.0, "no caption")  # the policy used its tokens up before the caption began
    return None


Text = tuple[str, str]
"""A caption of a problem: uid and caption. Equal ones are judged once."""


def text_of(case: Case) -> Text:
    """The caption of a case."""
    return case.problem.uid, case.rollout.caption


def texts(cases: Sequence[Case]) -> dict[Text, Problem]:
    """The different captions that are to be judged, in order, each with its problem."""
    return {text_of(case): case.problem for case in cases if unasked(case) is None}
