"""Reward `answer` (RACRO): can the frozen reasoner answer the question from the caption?

Of a policy that answers itself (RAPID's first stage): is its answer right?

Not the grader (`racro.grading`). What the reasoner is asked is `racro.rollouts.reasoner`, so that the stage caption can
have it answer ahead of time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from racro import config
from racro.engines.protocol import Completion, Refusal
from racro.grading import RULES, grade
from racro.prompts import REASONER_DIGEST
from racro.rewards.protocol import Case, Kind, Means, Value
from racro.rollouts.reasoner import UNANSWERED, answer, no_question, training_sampling
from racro.schema import Gold, Verdict


class Answer(Kind[config.AnswerReward]):
    """1 for a right answer, 0 for a wrong one, None where nothing is known about the caption."""

    version = 1 + RULES
    prompts = REASONER_DIGEST
    needs = frozenset(("reasoner",))
    remedy = (
        "raise reasoner.max_tokens (truncated) or runtime.request_deadline (failed), or look at the reasoner's answers"
    )

    def score(self, cases: Sequence[Case], means: Means) -> Iterator[Value]:
        """The values, each with response and verdict.

        A caption that was cut by the deadline is failed without being asked: the engine was slow, which says nothing
        about the caption. A caption that the reasoner refuses is failed too. If a thinking captioner used up its tokens
        before the caption began, the reasoner is not asked either and the verdict is truncated: the policy wrote too
        much, and `truncated` says what that earns. Progress counts unique questions.

        Without a reasoner, the texts are the policy's own answers (RAPID's first stage), and are graded as they are.
        """
        if means.reasoner is None:
            yield from self._own(cases)
            return
        assert means.reasoner_settings
        pairs = [(case.problem.question, case.rollout.caption) for case in cases]
        unasked = [no_question(case.rollout.caption, case.rollout.finish_reason) for case in cases]
        asked = [pair for pair, stand_in in zip(pairs, unasked, strict=True) if stand_in is None]
        how = training_sampling(means.reasoner_settings, means.seed, means.iteration, means.deadline)
        answers = answer(asked, means.reasoner, *how, means.progress)
        for pair, case, stand_in in zip(pairs, cases, unasked, strict=True):
            made: Completion | Refusal = stand_in or answers[pair]
            if isinstance(made, Refusal):
                means.refused(case.problem, made.reason)
                made = UNANSWERED
            verdict = grade(made.text, made.finish_reason, Gold.of(case.problem)).verdict
            yield Value(worth(verdict, self.settings.truncated), verdict.value, made.text, verdict)

    def _own(self, cases: Sequence[Case]) -> Iterator[Value]:
        for case in cases:
            verdict = grade(case.rollout.caption, case.rollout.finish_reason, Gold.of(case.problem)).verdict
            yield Value(worth(verdict, self.settings.truncated), verdict.value, verdict=verdict)


def worth(verdict: Verdict, truncated: Literal["wrong", "unscored"]) -> float | None:
    """Value of a caption by the verdict on the answer from it. None: unscored.

    Unparsed counts as wrong: the reasoner finished and could not answer from the caption. Truncated counts as the
    recipe says. Failed is always unscored.
    """
    match verdict:
        case Verdict.CORRECT:
            return 1.0
        case Verdict.WRONG | Verdict.UNPARSED:
            return 0.0
        case Verdict.TRUNCATED:
            return 0.0 if truncated == "wrong" else None
        case Verdict.FAILED:
            return None


def counts(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """How often each verdict was given; all verdicts are keys."""
    found = Counter(verdicts)
    return {verdict.value: found[verdict] for verdict in Verdict}
