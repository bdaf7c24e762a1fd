"""Reward `confidence` (Listener, arXiv 2506.22832): how probable is the gold answer to the reasoner, from the caption?

The answer is forced after "The answer is", without reasoning before it, so that it costs one pass over the prompt. It
tells captions apart where all answers are right or all are wrong. The formula is from notes on the paper.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from racro import config
from racro.engines.protocol import Prompt, Refusal, Request, Sampling
from racro.prompts import REASONER_DIGEST, reasoner_messages
from racro.rewards.judging import text_of, texts, unasked
from racro.rewards.protocol import Case, Kind, Means, Value
from racro.rollouts.reasoner import one, watched
from racro.schema import AnswerKind

SHORT: tuple[AnswerKind, ...] = ("choice", "choices", "yesno", "integer")
"""Answers whose probability as a whole counts; of others, whose length varies, the mean of a token."""


class Confidence(Kind[config.ConfidenceReward]):
    """A value from 0 to 1 for each caption; None where the reasoner cannot be asked."""

    version = 1
    prompts = REASONER_DIGEST
    needs = frozenset(("reasoner", "gate"))
    remedy = "raise runtime.request_deadline, or look at the reasoner's engine"

    def score(self, cases: Sequence[Case], means: Means) -> Iterator[Value]:
        """The values. Progress counts unique captions."""
        assert means.reasoner
        asked = texts(cases)
        sampling = Sampling(deadline=means.deadline)
        requests = (
            Request(
                key,
                Prompt(reasoner_messages(problem.question, caption), lead=self.settings.lead),
                sampling,
                0,  # nothing is drawn
                forced=_forced(self.settings.lead, problem.answer),
            )
            for key, ((_, caption), problem) in enumerate(asked.items())
        )
        places, values = list(asked), dict[tuple[str, str], Value]()
        for made in watched(means.reasoner.generate(requests), len(asked), means.progress):
            text, said = places[made.key], one(made)
            if isinstance(said, Refusal):
                means.refused(asked[text], said.reason)
                values[text] = Value(None, "the reasoner refuses the prompt", fault="refused")
            elif said.finish_reason == "deadline":
                values[text] = Value(None, "the reasoner did not answer in time", fault="late")
            else:
                values[text] = worth(said.logprobs, asked[text].kind, self.settings.floor)
        for case in cases:
            yield unasked(case) or values[text_of(case)]


def worth(logprobs: Sequence[float], kind: AnswerKind, floor: float) -> Value:
    """The answer's probability, or for a text 1 + mean log-prob / floor, at least 0."""
    if kind in SHORT:
        probability = math.exp(math.fsum(logprobs))
        return Value(probability, f"probability {probability:.3g}")
    mean = math.fsum(logprobs) / len(logprobs)
    return Value(max(0.0, 1 + mean / floor), f"mean log-prob {mean:.3g}")


def _forced(lead: str, answer: str) -> str:
    """The answer as it follows the lead: most tokenizers take a space into the word after it."""
    return f" {answer}" if lead[-1:].isalnum() or lead.endswith(":") else answer
