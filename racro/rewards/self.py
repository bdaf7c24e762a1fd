"""Reward `self` (Vision-SR1, arXiv 2508.19652): can the policy itself answer from its caption, without the image?

The reasoner's prompt and the grader are those of the reward `answer`; the model is the policy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from racro import config
from racro.engines.protocol import Refusal, Sampling, prompt_seed
from racro.grading import RULES, grade
from racro.prompts import REASONER_DIGEST
from racro.rewards.answer import worth
from racro.rewards.judging import unasked
from racro.rewards.protocol import Case, Kind, Means, Value
from racro.rollouts.reasoner import UNANSWERED, answer
from racro.schema import Gold


class Self(Kind[config.SelfReward]):
    """1 for a right answer, 0 for a wrong one, None where nothing is known."""

    version = 1 + RULES
    prompts = REASONER_DIGEST
    needs = frozenset(("policy", "gate"))
    remedy = "raise runtime.request_deadline, or look at what the captioner answers"

    def score(self, cases: Sequence[Case], means: Means) -> Iterator[Value]:
        """The values, each with response and verdict. Progress counts unique questions."""
        assert means.policy
        pairs = [(case.problem.question, case.rollout.caption) for case in cases]
        asked = [pair for pair, case in zip(pairs, cases, strict=True) if unasked(case) is None]
        sampling = Sampling(1, self.settings.temperature, 1.0, self.settings.max_tokens, means.deadline)
        seed = prompt_seed(means.seed, "self", means.iteration)
        answers = answer(asked, means.policy, sampling, seed, means.progress)
        for pair, case in zip(pairs, cases, strict=True):
            if (stand_in := unasked(case)) is not None:
                yield stand_in
                continue
            made = answers[pair]
            if isinstance(made, Refusal):
                means.refused(case.problem, made.reason)
                made = UNANSWERED
            verdict = grade(made.text, made.finish_reason, Gold.of(case.problem)).verdict
            yield Value(worth(verdict, "wrong"), verdict.value, made.text, verdict)
