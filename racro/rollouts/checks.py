"""Mode check: did the reasoner say that the caption is not enough, and what is missing?"""

from __future__ import annotations

import re

from racro.rollouts.thoughts import spoken

_CANNOT = re.compile(r"\\boxed\s*\{\s*(?:\\text\w*\s*\{)?\s*cannot[\s~_\\]+be[\s~_\\]+answered\W*?\}+", re.IGNORECASE)
NOT_SAID = "what the question asks about"
"""Stands for what is missing where the reasoner does not say it."""


def missing(text: str) -> str | None:
    """What the reasoner misses in the caption, in its words; None if it gave an answer.

    Only the last box counts: a reasoner that changes its mind has answered.
    """
    said = spoken(text)
    found = list(_CANNOT.finditer(said))
    if not found or "\\boxed" in said[found[-1].end() :]:
        return None
    after = said[found[-1].end() :].strip(" .:,;*$\n")
    before = said[: found[-1].start()].strip(" .:,;*$\n")
    return " ".join((after or before or NOT_SAID).split())
