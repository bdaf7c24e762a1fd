"""From a verdict to a reward. What says nothing about the caption gets None, never 0.

Not the grader (`grading.py`) and not the baseline (`advantage.py`). Called by `racro.rollouts.reasoner`; the stage
reason calls the check.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from racro import config
from racro.schema import Verdict


def reward(verdict: Verdict, describes: bool | None, recipe: config.RewardSettings) -> float | None:
    """The reward of one caption (RACRO: equation of CRO; the penalty is RAPID's). None: unscored.

    1 for a right answer, less `penalty` where the text is known not to describe the image; 0 for a wrong one. Unparsed
    counts as wrong: the reasoner came to an end and made nothing of the caption. Truncated counts as the recipe says;
    failed is unscored always.
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
    """How often each verdict was given; all of them are listed."""
    found = Counter(verdicts)
    return {verdict.value: found[verdict] for verdict in Verdict}


def too_many_unscored(rewards: Sequence[float | None], recipe: config.RewardSettings) -> bool:
    """Has more than `max_unscored` of the captions no reward, so that something else than the captions is broken?"""
    return sum(value is None for value in rewards) > recipe.max_unscored * len(rewards)
