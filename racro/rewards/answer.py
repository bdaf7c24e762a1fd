"""Verdict on an answer -> reward of its caption. A verdict that says nothing about the caption gives None, never 0.

Not the grader (`racro.grading`) and not the baseline (`racro.training.advantage`). Called by `racro.rollouts.reasoner`
and, for the check of unscored captions, by the stage reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from racro import config
from racro.schema import Verdict


def reward(verdict: Verdict, describes: bool | None, recipe: config.RewardSettings) -> float | None:
    """The reward of one caption (RACRO's caption reward; the penalty is RAPID's). None: unscored.

    A right answer gives 1, less `penalty` if the caption is known not to describe the image; a wrong one gives 0.
    Unparsed counts as wrong: the reasoner finished and could not answer from the caption. Truncated counts as the
    recipe says. Failed is always unscored.
    """
    match verdict:
        case Verdict.CORRECT:
            return 1.0 - recipe.penalty if describes is False else 1.0
        case Verdict.WRONG | Verdict.UNPARSED:
            return 0.0
        case Verdict.TRUNCATED:
            return 0.0 if recipe.truncated == "wrong" else None
        case Verdict.FAILED:
            return None


def counts(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """How often each verdict was given; all verdicts are keys."""
    found = Counter(verdicts)
    return {verdict.value: found[verdict] for verdict in Verdict}


def too_many_unscored(rewards: Sequence[float | None], recipe: config.RewardSettings) -> bool:
    """Is the share of captions without a reward above `max_unscored`? Then something other than captions is broken."""
    return sum(value is None for value in rewards) > recipe.max_unscored * len(rewards)
