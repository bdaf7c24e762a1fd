"""Mode clues: sub-questions in what the reasoner wrote, and how their answers are shown to it.

The prompts are `racro.prompts`; who is asked when is decided by those who call this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from racro.rollouts.thoughts import spoken

_BULLET = re.compile(r"^\s*(?:[-*•]+|\(?\d+[.):])\s+")


def sub_questions(text: str, count: int) -> list[str]:
    """The first `count` different sub-questions of a text that has one on each line, without numbers and bullets.

    Where lines end with a question mark, others are no sub-questions but words around them.
    """
    lines = [_BULLET.sub("", line).strip().strip("*").strip() for line in spoken(text).splitlines()]
    asking = [line for line in lines if line.endswith("?")] or [line for line in lines if re.search(r"\w", line)]
    return list(dict.fromkeys(asking))[:count]


def dialogue(answered: Iterable[tuple[str, str]]) -> str:
    """Sub-questions with their answers, as the reasoner reads them. Empty without any."""
    return "\n\n".join(f"Question: {question}\nAnswer: {answer}" for question, answer in answered)
