"""Is what stands in the place of an answer no answer: "unknown", "cannot be determined", "not enough information"?

For votes alone: such an answer must not win over real ones. To the grader an explicit "unknown" is an answer, and wrong
unless it is the gold. "No solution", "undefined" and "none" are answers. Called by `racro.rollouts.votes`' callers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from racro.grading.normalise import normalised
from racro.grading.plain import clean, unstyled

LONGEST = 200
"""Characters beyond which a text is more than a refusal to answer."""
_LEAD = (
    r"(?:(?:the |this |its |it |that |final )*(?:answer|value|result|question|option|it|this|that)?\s?(?:is|are|:)\s?)?"
)
_KNOW = (
    r"(?:determined?|deduced?|inferr?(?:ed)?|answer(?:ed)?|know|known|said|say|tell|told|computed?|calculated?|found"
    r"|find|solved?|identif(?:y|ied)|decided?|concluded?)"
)
_ABOUT = r"(?:\b.{1,120})?"
_ABSTAINS = re.compile(
    rf"{_LEAD}(?:"
    r"unknown|undetermined|undeterminable|unanswerable|unsure|unclear|uncertain|n/a|\?+"
    r"|not (?:known|sure|given|specified|stated|provided|mentioned|available|applicable|determinable|answerable|clear)"
    rf"|(?:i |we |you |it )?(?:can ?not|can['’]?t|could not|couldn['’]?t) (?:be )?{_KNOW}"
    rf"|(?:i am |i['’]m |we are )?(?:unable|impossible|not possible) to (?:be )?{_KNOW}"
    r"|(?:i |we )?(?:do not|don['’]?t) know"
    r"|(?:there is |there['’]s )?(?:not enough|insufficient|missing|lack of) (?:information|info|data|context|details?)"
    rf")(?:\s(?:from|by|with|without|based|given|in|to|for|about|as|because|since|which|what|how|it|the|this)\b{_ABOUT}|"
    r"[.,;:(]\s?.{0,120})?",
    re.IGNORECASE,
)
_OPTIONS = re.compile(r"\n|;|,|\?|(?<![A-Za-z])\(?[A-J][.):]\s|\bor\b", re.IGNORECASE)


def abstains(answer: str, question: str = "", choices: Sequence[str] = ()) -> bool:
    """Does an answer say only that there is none? Not where the question offers these words as an option."""
    said = clean(unstyled(normalised(answer))).strip("\"'“”.!() ")
    if len(said) > LONGEST or not _ABSTAINS.fullmatch(said):
        return False
    offered = (*choices, *_OPTIONS.split(normalised(question)))
    return said.lower() not in {clean(option).strip("\"'“”.!() ").lower() for option in offered}
