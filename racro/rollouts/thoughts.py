"""What a thinking model says, without what it thinks: a caption is the text after `</think>`.

Token ids and log-probs keep everything, because the policy is trained on all that it writes. A reasoner's thoughts are
dealt with where answers are found (`racro.grading.extraction`).
"""

from __future__ import annotations

OPEN, CLOSE = "<think>", "</think>"


def spoken(text: str) -> str:
    """The text after the thoughts; all of it if there are none, and nothing if they have not ended."""
    if CLOSE in text:
        return text.rpartition(CLOSE)[2].strip()
    return "" if text.lstrip().startswith(OPEN) else text
