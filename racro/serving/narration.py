"""What the models have written so far -> the texts of an answer, which only ever grow, so that they can be streamed.

`reasoning` holds caption, tentative answer and the reasoner's thinking in this order, each once the one before it is
complete; `content` is the reasoner's answer. Pure. Called by `racro.serving.completion` and `racro.serving.page`.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from racro.answering.cases import STEPS, Step
from racro.rollouts.thoughts import CLOSE, OPEN
from racro.schema import Mode

SECOND_TITLES: dict[Mode, str] = {"joint": "Tentative answer", "clues": "Sub-questions", "check": "Second caption"}
"""Of the captioner's second text, in the modes that have one."""


@dataclass(frozen=True)
class Written:
    """Texts as the models wrote them, up to now."""

    texts: Mapping[Step, str]
    finished: AbstractSet[Step]
    mode: Mode = "joint"

    def thoughts(self, step: Step) -> str:
        """What a thinking model thinks."""
        return self._parts(step)[0]

    def spoken(self, step: Step) -> str:
        """A text without the thoughts before it."""
        return self._parts(step)[1]

    def _parts(self, step: Step) -> tuple[str, str]:
        return divide(self.texts.get(step, ""), step in self.finished)


def divide(text: str, finished: bool) -> tuple[str, str]:
    """Thoughts and the text after them. While a tag may be about to come, what could be its beginning is held back."""
    begun = text.lstrip()
    if CLOSE in text:
        before, _, after = text.partition(CLOSE)
        return before.strip().removeprefix(OPEN).strip(), after.lstrip()
    if begun.startswith(OPEN):
        thoughts = begun.removeprefix(OPEN).lstrip()
        return (thoughts if finished else _without_beginning(thoughts)).rstrip(), ""
    if not finished and OPEN.startswith(begun):
        return "", ""
    return "", text if finished else _without_beginning(text)


def _without_beginning(text: str) -> str:
    """Without an end that may be the beginning of the closing tag."""
    for length in range(len(CLOSE) - 1, 0, -1):
        if text.endswith(CLOSE[:length]):
            return text[:-length]
    return text


def reasoning(written: Written) -> str:
    """Everything before the answer."""
    parts: list[str] = []
    for step in STEPS:
        text = written.thoughts("answer") if step == "answer" else written.spoken(step).strip()
        titles = {"caption": "Caption", "attempt": SECOND_TITLES.get(written.mode, ""), "answer": "Thinking"}
        if text:
            parts.append(f"{titles[step]}:\n{text}")
        if step not in written.finished and step in written.texts:
            break
    return "\n\n".join(parts)


def content(written: Written) -> str:
    """The reasoner's answer. It begins when everything before it is complete."""
    return written.spoken("answer")


class Growing:
    """A text that a client gets piece by piece."""

    def __init__(self) -> None:
        self.sent = ""

    def more(self, text: str) -> str:
        """What is new in it; a text that does not begin with what was sent waits for one that does."""
        if not text.startswith(self.sent):
            return ""
        new, self.sent = text[len(self.sent) :], text
        return new
