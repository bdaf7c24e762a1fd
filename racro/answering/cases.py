"""A question about images on its way to its answer: what was asked, what was written so far, or why it cannot be asked.

Images are decoded here, a limited number at a time. No engine and no model. Called by `racro.answering.pipeline`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from PIL import Image

from racro.data.cells import BadGold, Unusable, readable, sound
from racro.data.golds import read_gold
from racro.data.images import BadImage, decode, image_bytes, upright
from racro.engines.protocol import Completion, Generation, Prompt, Refusal
from racro.errors import BadInput
from racro.grading import boxed, extract, final_part, grade
from racro.prompts import attempt_messages, caption_messages, joint_messages, question_parts
from racro.rollouts.reasoner import UNANSWERED
from racro.rollouts.thoughts import spoken
from racro.schema import FinishReason, Gold, Mode, ModelOutput, Row, Verdict

NOTHING = Completion((), (), "", "stop")
"""Stands for a text that the mode does not have."""
QUESTIONS = 64
"""Questions that are asked in one call of an engine, at most."""
PIXELS = 100_000_000
"""Pixels that are decoded at a time, unless one question has more."""

ImageSource = str | os.PathLike[str] | bytes | Image.Image
"""Path or URI of an image file, its bytes, or an image that Pillow has opened."""
ONE_IMAGE = (str, os.PathLike, bytes, Image.Image)

Step = Literal["caption", "attempt", "answer"]
CAPTIONER_STEPS: tuple[Step, Step] = ("caption", "attempt")
"""The texts that the captioner writes, which may finish in any order."""
STEPS: tuple[Step, ...] = (*CAPTIONER_STEPS, "answer")
ANSWERING: tuple[Mode, ...] = ("joint", "caption", "vote", "best", "clues", "shots", "check")
"""The modes in which a question can be answered; the first is the model card's."""
SECOND: tuple[Mode, ...] = ("joint", "clues", "check")
"""Those in which the captioner writes a second text."""

Watch = Callable[[int, Step, Completion], None]
"""Called with each part of an answer, in the order of STEPS, as soon as it is there.

The number counts the questions of the call from 0."""


Keep = Callable[[int, str, ModelOutput], None]
"""Called with each text that a model wrote on the way to an answer, with its prompt: all that a mode asks.

The number counts the questions of the call from 0; the name says what the text is: caption, attempt, sub-questions,
clues, check, again or answer. Several texts of one name are told apart by their `sample`."""


def unwatched(number: int, step: Step, completion: Completion) -> None:
    """The Watch that does nothing."""


def unkept(number: int, name: str, row: ModelOutput) -> None:
    """The Keep that does nothing."""


@dataclass(frozen=True)
class Question:
    """What is asked, about one image or several, in the order of the question's `<image>` placeholders if any."""

    images: ImageSource | Sequence[ImageSource]
    question: str
    gold: str | None = None
    """The right answer, if it is known: the answer then carries a verdict."""


class Finish(Row):
    """Why each of the texts ended; `length` and `deadline` say that it was cut off."""

    caption: FinishReason
    attempt: FinishReason | None = None
    """None where the mode has no second text."""
    answer: FinishReason


class Answer(Row):
    """An answer, with everything that led to it."""

    caption: str
    attempt: str
    """The captioner's own answer, with its steps. In mode `clues` the answered sub-questions, in mode `check` the
    second caption; empty where the mode has no second text, or none was needed."""
    reasoning: str
    """All that the reasoner wrote, a blank line where the tags around its thinking were."""
    final: str
    """The answer in it: the content of the last box, or what it calls the answer; where neither is found, all that
    follows the thinking. Empty when the reasoner was cut off before it gave an answer."""
    verdict: Verdict | None = None
    """None where no gold answer was given."""
    finish: Finish


class Unanswerable(BadInput):
    """A question that cannot be asked as it is."""


@dataclass
class Case:
    """A question on its way: what was asked, what was written so far, or why it cannot be asked."""

    number: int
    error: BadInput | None = None
    question: str = ""
    images: tuple[Image.Image, ...] = ()
    gold: Gold | None = None
    written: dict[Step, Completion] = field(default_factory=dict)
    shown: int = 0
    """Steps that the watcher has seen."""
    steps: tuple[Step, ...] = STEPS
    """Those that its mode has."""

    def captioner_prompts(self) -> list[Prompt]:
        """The captioner's two prompts, in the order of CAPTIONER_STEPS."""
        messages = caption_messages, attempt_messages
        return [Prompt(make(self.question, len(self.images)), self.images) for make in messages]

    def take(self, step: Step, made: Generation | Refusal, watch: Watch) -> None:
        """Write down what an engine made, or that it refused."""
        if isinstance(made, Refusal):
            self.error = self.error or Unanswerable(made.reason)
        else:
            [self.written[step]] = made.completions
            while self.shown < len(self.steps) and self.steps[self.shown] in self.written:
                watch(self.number, self.steps[self.shown], self.written[self.steps[self.shown]])
                self.shown += 1

    @property
    def legible(self) -> bool:
        """Has the captioner written everything that the reasoner needs?"""
        written = [self.written.get(step, UNANSWERED) for step in CAPTIONER_STEPS]
        return self.error is None and all(text.finish_reason != "deadline" for text in written)

    def texts(self) -> tuple[str, str, str]:
        """Question, caption, attempt; without the thoughts of a captioner that thinks."""
        caption, attempt = (spoken(self.written.get(step, NOTHING).text) for step in CAPTIONER_STEPS)
        return self.question, caption, attempt

    def question_to_reasoner(self) -> Prompt:
        """The reasoner's prompt."""
        return Prompt(joint_messages(*self.texts()))

    def result(self) -> Answer | BadInput:
        """All of it; or the error."""
        if self.error is not None:
            return self.error
        made = self.written.get("answer", UNANSWERED)
        gold, cut_off = self.gold, made.finish_reason != "stop"
        found = boxed(final_part(made.text)) if cut_off else extract(made.text) or final_part(made.text).strip()
        _, caption, attempt = self.texts()
        return Answer(
            caption=caption,
            attempt=attempt,
            reasoning=re.sub(r"\s*</?think>\s*", "\n\n", made.text).strip(),
            final=found or "",
            verdict=gold and grade(made.text, made.finish_reason, gold).verdict,
            finish=Finish(
                caption=self.written["caption"].finish_reason,
                attempt=self.written["attempt"].finish_reason if "attempt" in self.written else None,
                answer=made.finish_reason,
            ),
        )


def windows(questions: Iterable[Question | BadInput]) -> Iterator[list[Case]]:
    """Cases with their images decoded, as many at a time as one call of an engine takes."""
    window: list[Case] = []
    pixels = 0
    for number, question in enumerate(questions):
        try:
            case = Case(number, question) if isinstance(question, BadInput) else _case(number, question)
        except BadInput as error:
            case = Case(number, error)
        more = sum(image.width * image.height for image in case.images)
        if window and (len(window) == QUESTIONS or pixels + more > PIXELS):
            yield window
            window, pixels = [], 0
        window.append(case)
        pixels += more
    if window:
        yield window


def _case(number: int, asked: Question) -> Case:
    try:
        sound(asked.question, "question")
        sound(asked.gold or "", "gold")
    except Unusable as error:
        raise Unanswerable(f"{error}; write it as valid UTF-8") from error
    if not asked.question.strip():
        raise Unanswerable("the question is empty; ask something about the image")
    sources = [asked.images] if isinstance(asked.images, ONE_IMAGE) else list(asked.images)
    if not sources:
        raise Unanswerable("no image; a question needs one at least")
    try:
        question_parts("{q}", asked.question, len(sources))
    except ValueError as error:
        raise Unanswerable(f"{error}; give as many images as placeholders, or write no placeholder") from error
    try:
        gold = None if asked.gold is None else read_gold(asked.gold, None, None, asked.question)
    except BadGold as error:
        raise Unanswerable(f"gold: {error}; write the right answer alone, as text") from error
    images = tuple(load_image(source, i) for i, source in enumerate(sources, 1))
    return Case(number, None, asked.question, images, gold)


def load_image(source: ImageSource, number: int = 1) -> Image.Image:
    """Decode to RGB, in full size: the model's processor scales it down. `number` names an image without a file.

    Raises BadImage.
    """
    name = f"image {number}" if isinstance(source, bytes | Image.Image) else os.fspath(source)
    if readable(name) != name:
        raise BadImage(f"{readable(name)}: no path of a file; give the path as valid UTF-8")
    try:
        if isinstance(source, Image.Image):
            return upright(source, name)
        return decode(source if isinstance(source, bytes) else image_bytes(name), name)
    except BadImage as error:
        raise BadImage(f"{error}; give a file in a format like PNG or JPEG") from error
    except (OSError, ValueError, ImportError) as error:  # no permission, an unknown protocol, a host that is down
        raise BadImage(f"{name}: cannot be read ({error}); give an image file that can") from error
