"""Questions about images -> answers: a captioner and any reasoner, as the model card has them work together.

The captioner writes a caption with the question in view, and a tentative answer of its own, both greedily; the reasoner
reads the two and answers. Not an evaluation: nothing here knows a data set. Called by the command `racro answer` and by
whoever uses the library.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from PIL import Image

from racro import config
from racro.engines import (
    LOG,
    Completion,
    Engine,
    Prompt,
    Role,
    Sampling,
    open_captioner,
    open_reasoner,
    outside,
    prompt_seed,
)
from racro.engines.ahead import Ahead
from racro.errors import BadInput
from racro.golds import BadGold, Gold, read_gold
from racro.grading import boxed, extract, final_part, grade
from racro.images import BadImage, decode, image_bytes, upright
from racro.models import ModelNotFound, model_folder
from racro.prompts import caption_messages, joint_messages, question_parts, tentative_messages
from racro.reasoner import UNANSWERED
from racro.schema import FinishReason, Row, Verdict

LONGEST = 8192
"""Tokens of a caption, a tentative answer or an answer, where the model has room for them."""
TEMPERATURE, TOP_P = 0.6, 0.95
"""The reasoner's sampling in the paper's evaluations; models that think in long chains loop when they are greedy."""
QUESTIONS = 64
"""Questions that are asked in one call of an engine, at most."""
PIXELS = 100_000_000
"""Pixels that are decoded at a time, unless one question has more."""
CALLS = 16
"""Calls that the reasoner works on at once, while the captioner goes on writing."""
SHARED = 0.45
"""Of a GPU's memory, for either of two engines on it."""

ImageSource = str | os.PathLike[str] | bytes | Image.Image
"""Path or URI of an image file, its bytes, or an image that Pillow has opened."""
ONE_IMAGE = (str, os.PathLike, bytes, Image.Image)

Step = Literal["caption", "tentative", "answer"]
LOOKS: tuple[Step, Step] = ("caption", "tentative")
"""What the captioner is asked for."""

Watch = Callable[[int, Step, Completion], None]
"""Called with each part of an answer when it is there; the number counts the questions of the call from 0."""


def unwatched(number: int, step: Step, completion: Completion) -> None:
    """The Watch of whoever waits for whole answers."""


@dataclass(frozen=True)
class Question:
    """What is asked, about one image or several, in the order of the question's `<image>` placeholders if any."""

    images: ImageSource | Sequence[ImageSource]
    question: str
    gold: str | None = None
    """The right answer, if it is known: the answer then carries a verdict."""


class Finish(Row):
    """Why each of the three texts ended; `length` and `deadline` say that it was cut off."""

    caption: FinishReason
    tentative: FinishReason
    answer: FinishReason


class Answer(Row):
    """An answer, with everything that led to it."""

    caption: str
    tentative: str
    """The captioner's own answer, with its steps."""
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


class Racro:
    """A captioner and a reasoner. Their engines are opened at the first question; `close`, or `with`, ends them."""

    def __init__(
        self,
        captioner: str | config.Captioner | Engine = "embedded",
        reasoner: str | config.Reasoner | Engine = "embedded",
        *,
        runtime: config.Runtime | None = None,
        max_tokens: int | None = None,
        temperature: float = TEMPERATURE,
        top_p: float = TOP_P,
        seed: int = 0,
        log: Path = LOG,
    ) -> None:
        """A model is `embedded`, a folder, a hub id, a section of a recipe, or an engine, which stays the caller's.

        `max_tokens` is the limit of each of the three texts; None: 8192, or a quarter of the positions that the model
        has when that is less. `temperature` and `top_p` are the reasoner's.
        """
        self.captioner, self.reasoner = captioner, reasoner
        self.runtime = runtime or config.Runtime()
        self.max_tokens, self.temperature, self.top_p, self.seed, self.log = max_tokens, temperature, top_p, seed, log
        self._opening = threading.Lock()
        self._engines: tuple[Engine, Engine] | None = None
        self._own = contextlib.ExitStack()
        self._limits = (max_tokens or LONGEST, max_tokens or LONGEST)

    def __enter__(self) -> Racro:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> tuple[Engine, Engine]:
        """Captioner and reasoner; nobody has to call this, the first question does.

        Both are looked up before either is loaded, and endpoints asked before models are loaded, so that mistakes show
        early. Engines that were lost are opened anew. Raises ModelNotFound, BadInput, EngineLost.
        """
        with self._opening:
            if self._engines is None or any(engine.lost for engine in self._engines):
                self._own.close()
                captioner = _resolve("captioner", self.captioner, self.runtime)
                reasoner = _resolve("reasoner", self.reasoner, self.runtime)
                if self.max_tokens is None:
                    self._limits = captioner.room(), reasoner.room()
                runtime = _shared(self.runtime, captioner, reasoner)
                opened: dict[Role, Engine] = {}
                with contextlib.ExitStack() as own:
                    for model in sorted((captioner, reasoner), key=lambda model: model.here):
                        opened[model.role] = engine = model.open(runtime, self.log)
                        if engine is not model.engine:
                            own.callback(engine.close)
                    self._own = own.pop_all()
                self._engines = opened["captioner"], opened["reasoner"]
            return self._engines

    def close(self) -> None:
        """Close the engines that were opened here. The next question opens them again."""
        with self._opening:
            self._engines = None
            self._own.close()

    def answer(
        self,
        images: ImageSource | Sequence[ImageSource],
        question: str,
        gold: str | None = None,
        watch: Watch = unwatched,
    ) -> Answer:
        """The answer to one question. Raises BadInput (BadImage, Unanswerable, ModelNotFound), EngineLost."""
        [answer] = self.answer_many([Question(images, question, gold)], watch)
        if isinstance(answer, BadInput):
            raise answer
        return answer

    def answer_many(
        self, questions: Iterable[Question | BadInput], watch: Watch = unwatched
    ) -> Iterator[Answer | BadInput]:
        """The answers in order, as they come. A question that cannot be asked gives its error and costs no other one.

        A BadInput among the questions comes back in its place. Questions are read late, at most QUESTIONS ahead; all
        that are read at a time go to an engine in one call. Raises ModelNotFound, EngineLost.
        """
        for cases in _windows(questions):
            if any(case.error is None for case in cases):
                yield from self._answers(cases, watch)
            else:
                yield from (case.result() for case in cases)

    def _answers(self, cases: list[_Case], watch: Watch) -> Iterator[Answer | BadInput]:
        captioner, reasoner = self.open()
        deadline = self.runtime.request_deadline
        greedy = Sampling(1, 0.0, 1.0, self._limits[0], deadline)
        sampled = Sampling(1, self.temperature, self.top_p, self._limits[1], deadline)
        # Caption and tentative answer side by side: an engine may look at the image once for both.
        looks = [prompt for case in cases if case.error is None for prompt in case.looks()]
        written = _each(captioner, looks, greedy, [0] * len(looks))
        prompts, seeds = [], []
        for case in cases:
            if case.error is None:
                for step in LOOKS:
                    case.take(step, next(written), watch)
            if case.legible:
                prompts.append(case.question_to_reasoner())
                seeds.append(prompt_seed(self.seed, "answer", *case.texts()))
                if isinstance(reasoner, Ahead):
                    reasoner.ask(prompts[-1], sampled, seeds[-1])
        answers = _each(reasoner, prompts, sampled, seeds)
        for case in cases:
            if case.legible:
                case.take("answer", next(answers), watch)
            yield case.result()


# --- one question -----------------------------------------------------------------------------------------------------


@dataclass
class _Case:
    """A question on its way: what was asked, what was written so far, or why it cannot be asked."""

    number: int
    error: BadInput | None = None
    question: str = ""
    images: tuple[Image.Image, ...] = ()
    gold: Gold | None = None
    written: dict[Step, Completion] = field(default_factory=dict)

    def looks(self) -> list[Prompt]:
        """The captioner's two prompts, in the order of LOOKS."""
        messages = caption_messages, tentative_messages
        return [Prompt(make(self.question, len(self.images)), self.images) for make in messages]

    def take(self, step: Step, made: Completion | BadInput, watch: Watch) -> None:
        """Write down what an engine made, or that it refused."""
        if isinstance(made, BadInput):
            self.error = self.error or made
        else:
            self.written[step] = made
            watch(self.number, step, made)

    @property
    def legible(self) -> bool:
        """Has the captioner written all that the reasoner needs?"""
        return self.error is None and all(self.written[step].finish_reason != "deadline" for step in LOOKS)

    def texts(self) -> tuple[str, str, str]:
        """Question, caption, tentative answer."""
        return self.question, self.written["caption"].text, self.written["tentative"].text

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
        _, caption, tentative = self.texts()
        return Answer(
            caption=caption,
            tentative=tentative,
            reasoning=re.sub(r"\s*</?think>\s*", "\n\n", made.text).strip(),
            final=found or "",
            verdict=gold and grade(made.text, made.finish_reason, gold).verdict,
            finish=Finish(
                caption=self.written["caption"].finish_reason,
                tentative=self.written["tentative"].finish_reason,
                answer=made.finish_reason,
            ),
        )


def _windows(questions: Iterable[Question | BadInput]) -> Iterator[list[_Case]]:
    """Cases with their images decoded, as many at a time as one call of an engine takes."""
    window: list[_Case] = []
    pixels = 0
    for number, question in enumerate(questions):
        try:
            case = _Case(number, question) if isinstance(question, BadInput) else _case(number, question)
        except BadInput as error:
            case = _Case(number, error)
        more = sum(image.width * image.height for image in case.images)
        if window and (len(window) == QUESTIONS or pixels + more > PIXELS):
            yield window
            window, pixels = [], 0
        window.append(case)
        pixels += more
    if window:
        yield window


def _case(number: int, asked: Question) -> _Case:
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
    return _Case(number, None, asked.question, images, gold)


def load_image(source: ImageSource, number: int = 1) -> Image.Image:
    """Decode to RGB, in full size: the model's processor scales it down. `number` names an image without a file.

    Raises BadImage.
    """
    name = f"image {number}" if isinstance(source, bytes | Image.Image) else os.fspath(source)
    try:
        if isinstance(source, Image.Image):
            return upright(source, name)
        return decode(source if isinstance(source, bytes) else image_bytes(name), name)
    except BadImage as error:
        raise BadImage(f"{error}; give a file in a format like PNG or JPEG") from error
    except (OSError, ValueError, ImportError) as error:  # no permission, an unknown protocol, a host that is down
        raise BadImage(f"{name}: cannot be read ({error}); give an image file that can") from error


def _each(
    engine: Engine, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]
) -> Iterator[Completion | BadInput]:
    """One completion per prompt, in order. A prompt that the engine refuses gives its error instead.

    Engines refuse a whole call for one prompt (PromptTooLong), so what is left of it is asked again in halves.
    """
    done = 0
    try:
        for generation in engine.generate(prompts, sampling, seeds):
            yield generation.completions[0]
            done += 1
        return
    except ValueError as error:
        refusal = error
    left = len(prompts) - done
    if left <= 1:
        yield refusal if isinstance(refusal, BadInput) else Unanswerable(f"the model cannot be asked this: {refusal}")
        return
    middle = done + left // 2
    for part in (slice(done, middle), slice(middle, len(prompts))):
        yield from _each(engine, prompts[part], sampling, seeds[part])


# --- models -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Model:
    """A role's model, found but not loaded; or an engine that was given open."""

    role: Role
    section: config.Captioner | config.Reasoner | None
    folder: str | None = None
    """None where only an endpoint or a script knows the model."""
    engine: Engine | None = None
    here: bool = False
    """Does it take memory of this machine?"""

    def room(self) -> int:
        """Tokens that a text may have: the joint prompt holds two of them, and a third has to follow."""
        if self.folder is None or self.section is None:
            return LONGEST
        checkpoint = _checkpoint(self.folder)
        positions = checkpoint.get("text_config", checkpoint).get("max_position_embeddings", 4 * LONGEST)
        limit = getattr(self.section.engine, "max_model_len", None)
        return min(LONGEST, positions // 4, (limit or positions) // 4)

    def open(self, runtime: config.Runtime, log: Path) -> Engine:
        """The engine. A reasoner outside this process takes questions while the captioner still writes."""
        if self.engine is not None:
            return self.engine
        if isinstance(self.section, config.Captioner):
            return open_captioner(self.section, self.folder or "", runtime, log)
        assert self.section is not None
        start = functools.partial(open_reasoner, self.section, self.folder or "", runtime, log)
        if not (runtime.streaming and outside(self.section, runtime.reasoner)):
            return start()
        ahead = Ahead(start, CALLS if self.section.engine.type in ("vllm", "server") else 1)
        ahead.engine = start()  # now: that it cannot be opened is no question's fault
        return ahead


def named(role: Role, model: str, engine: config.Engine | None = None) -> config.Captioner | config.Reasoner:
    """A model by its name, as the section of a recipe would have it, in the precision of its checkpoint.

    Raises ModelNotFound.
    """
    dtype = _checkpoint(str(model_folder(model, role))).get("dtype", "bfloat16")
    section = config.Captioner if role == "captioner" else config.Reasoner
    return section(
        model=model,
        dtype=dtype if dtype in get_args(config.DType) else "bfloat16",
        engine=engine or config.TransformersEngine(),
    )


def _resolve(role: Role, given: str | config.Captioner | config.Reasoner | Engine, runtime: config.Runtime) -> _Model:
    if isinstance(given, str):
        given = named(role, given)
    if not isinstance(given, config.Captioner | config.Reasoner):
        return _Model(role, None, engine=given)
    place: config.Place = getattr(runtime, role)
    by_url = given.engine.type == "server" and bool(place.urls)
    if given.engine.type == "scripted" or (by_url and role == "reasoner"):
        return _Model(role, given)
    # An endpoint's captioner is looked up too: the engine must know which of its tokens stand for images.
    return _Model(role, given, str(model_folder(given.model, role, given.revision)), here=not by_url)


def _checkpoint(folder: str) -> dict[str, Any]:
    """config.json of a model folder; older files say `torch_dtype`."""
    file = Path(folder) / "config.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {"dtype": content.get("torch_dtype", "bfloat16"), **content}
    except (ValueError, AttributeError) as error:
        raise ModelNotFound(f"{file} is no model's configuration ({error}); get the model again") from error


def _shared(runtime: config.Runtime, captioner: _Model, reasoner: _Model) -> config.Runtime:
    """Two engines that are started on the same GPUs get less than half of their memory each."""
    first, second = {*runtime.captioner.gpus}, {*runtime.reasoner.gpus}
    apart = first and second and first.isdisjoint(second)  # none named: those that there are, for both
    if apart or not (captioner.here and reasoner.here):
        return runtime
    places = {
        role: place.model_copy(update={"gpu_memory": min(SHARED, place.gpu_memory)})
        for role, place in (("captioner", runtime.captioner), ("reasoner", runtime.reasoner))
    }
    return runtime.model_copy(update=places)
