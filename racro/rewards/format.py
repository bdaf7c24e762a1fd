"""Reward `format`: does all that the policy wrote have the form that a paper asks for?

Forms vision_sr1 (arXiv 2508.19652) and perception_r1 (arXiv 2506.07218), as in the code of these papers. Both are about
one text with thoughts and answer, so they belong to stages with the objective `answer`, whose texts also hold what a
policy thinks. Linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from racro import config
from racro.rewards.protocol import Case, Kind, Means, Value
from racro.schema import Rollout

_AROUND = re.compile(r"(?<!\s)\s++(?=[<>/])|(?<=[<>/])\s++")
_DESCRIBED = re.compile(r"</description>\s*<think>")
_THOUGHT = re.compile(r"</think>\s*\\boxed\{")
BOX = "\\boxed{"


class Format(Kind[config.FormatReward]):
    """1 for a text of the form, 0 for any other, None for one that the deadline cut."""

    version = 1
    blind = True
    remedy = "raise runtime.request_deadline: texts that it cuts have no form"

    def score(self, cases: Sequence[Case], means: Means) -> Iterator[Value]:
        """The values, in the order of the cases."""
        fits = FORMS[self.settings.form]
        for case in cases:
            if case.rollout.finish_reason == "deadline":
                yield Value(None, "cut by the deadline")
            else:
                fit = fits(whole(case.rollout))
                yield Value(float(fit), "of the form" if fit else "of another form")


def whole(rollout: Rollout) -> str:
    """All that the policy wrote, thoughts included."""
    return rollout.written or rollout.caption


def vision_sr1(text: str) -> bool:
    """A description, thoughts and a box, one after the other, each in its tags, and nothing else but spaces.

    Spaces around "<", ">" and "/" are taken off first, as the authors do.
    """
    text = _AROUND.sub("", text).strip()
    described = _DESCRIBED.search(text, len("<description>"))
    if not text.startswith("<description>") or described is None:
        return False
    box = _THOUGHT.search(text, described.end())
    return box is not None and text.endswith("}") and box.end() < len(text)


def perception_r1(text: str) -> bool:
    """Thoughts and an answer with a box that is not empty, each in its tags and on lines of its own."""
    opened, between, closed = "<think>\n", "\n</think>\n<answer>\n", "\n</answer>"
    thought = text.find(between, len(opened))
    if not (text.startswith(opened) and thought >= 0 and text.endswith(closed)):
        return False
    begin = text.find(BOX, thought + len(between), len(text) - len(closed))
    return begin >= 0 and "}" in text[begin + len(BOX) + 1 : len(text) - len(closed)]


FORMS: dict[str, Callable[[str], bool]] = {"vision_sr1": vision_sr1, "perception_r1": perception_r1}
"""By the name that a recipe gives."""
