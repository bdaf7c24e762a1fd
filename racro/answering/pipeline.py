"""Questions about images -> answers by a captioner and any reasoner: as the model card has it, or in other modes.

In mode `joint` the captioner writes a caption with the question in view, and its own attempt at the answer, both
greedily; the reasoner reads the two and answers. The other modes are `racro.answering.rounds`. Not an evaluation:
nothing here knows a data set. Called by the command `racro answer` and by users of the library.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from racro import config
from racro.answering import rounds
from racro.answering.cases import (
    ANSWERING,
    CAPTIONER_STEPS,
    Answer,
    Case,
    ImageSource,
    Keep,
    Question,
    Watch,
    unkept,
    unwatched,
    windows,
)
from racro.answering.engine_pair import resolve, shared
from racro.engines.protocol import Engine, Request, Role, Sampling, prompt_seed
from racro.errors import BadInput
from racro.evaluation.modes import outputs
from racro.rewards import choosing
from racro.schema import Mode, Shot

TEMPERATURE, TOP_P = 0.6, 0.95
"""The reasoner's sampling in the paper's evaluations; models that think in long chains loop when they are greedy."""


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
        log: Path | None = None,
        mode: Mode = "joint",
        settings: config.ModeSettings | None = None,
        shots: Sequence[Shot] = (),
    ) -> None:
        """A model is `embedded`, a folder, a hub id, a section of a recipe, or an engine, which stays the caller's.

        `max_tokens` is the limit of each of the three texts; None: 8192, or a quarter of the model's positions where
        that is less, and of what its server takes where it has one. `temperature` and `top_p` are the reasoner's.
        `mode`: one of ANSWERING, with its `settings`; `shots`: the solved examples of mode shots. Raises BadInput for a
        mode that cannot work with these.
        """
        if mode not in ANSWERING:
            raise BadInput(f"mode {mode}: questions are not answered like that; one of {', '.join(ANSWERING)}")
        if mode == "shots" and not shots:
            raise BadInput("mode shots: no solved example; give some (question, caption and answer)")
        self.mode, self.settings, self.shots = mode, settings or config.ModeSettings(), shots
        if mode == "best":
            choosing.require(self.settings.kind)
        self.captioner, self.reasoner = captioner, reasoner
        self.runtime = runtime or config.Runtime()
        self.max_tokens, self.temperature, self.top_p, self.seed, self.log = max_tokens, temperature, top_p, seed, log
        self._opening = threading.Lock()
        self._engines: tuple[Engine, Engine] | None = None
        self._own = contextlib.ExitStack()
        self._limits = (0, 0)

    def __enter__(self) -> Racro:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> tuple[Engine, Engine]:
        """Captioner and reasoner. Optional: the first question opens them too.

        Both are looked up before either is loaded, and endpoints are asked before models are loaded, so that mistakes
        show early. Lost engines are opened again. Raises ModelNotFound, BadInput, EngineLost.
        """
        with self._opening:
            if self._engines is None or any(engine.lost for engine in self._engines):
                self._own.close()
                captioner = resolve("captioner", self.captioner, self.runtime)
                reasoner = resolve("reasoner", self.reasoner, self.runtime)
                runtime = shared(self.runtime, captioner, reasoner)
                opened: dict[Role, Engine] = {}
                with contextlib.ExitStack() as own:
                    for model in sorted((captioner, reasoner), key=lambda model: model.here):
                        opened[model.role] = engine = model.open(runtime, self.log)
                        if engine is not model.engine:
                            own.callback(engine.close)
                    answer = self.max_tokens or reasoner.room(opened["reasoner"])
                    # The reasoner's prompt holds two texts of the captioner's.
                    look = self.max_tokens or min(answer, captioner.room(opened["captioner"]))
                    self._own = own.pop_all()
                self._engines, self._limits = (opened["captioner"], opened["reasoner"]), (look, answer)
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
        self, questions: Iterable[Question | BadInput], watch: Watch = unwatched, keep: Keep = unkept
    ) -> Iterator[Answer | BadInput]:
        """The answers in order, as they come. A question that cannot be asked gives its error and costs no other one.

        A BadInput among the questions comes back in its place. Questions are read late, at most QUESTIONS ahead; all
        that are read at a time go to an engine in one call. Raises ModelNotFound, EngineLost.
        """
        for cases in windows(questions):
            if any(case.error is None for case in cases):
                yield from self._answers(cases, watch, keep)
            else:
                yield from (case.result() for case in cases)

    def _answers(self, cases: list[Case], watch: Watch, keep: Keep) -> Iterator[Answer | BadInput]:
        captioner, reasoner = self.open()
        deadline = self.runtime.request_deadline
        greedy = Sampling(1, 0.0, 1.0, self._limits[0], deadline)
        sampled = Sampling(1, self.temperature, self.top_p, self._limits[1], deadline)
        if self.mode != "joint":
            asking = rounds.Asking(captioner, reasoner, greedy, sampled, self.seed, self.settings, self.shots)
            rounds.answer(cases, self.mode, asking, watch, keep)
            yield from (case.result() for case in cases)
            return
        asked = [case for case in cases if case.error is None]
        # Caption and attempt side by side: an engine may look at the image once for both.
        steps = [(case, step) for case in asked for step in CAPTIONER_STEPS]
        prompts = (prompt for case in asked for prompt in case.captioner_prompts())
        requests = [Request(key, prompt, greedy, 0) for key, prompt in enumerate(prompts)]
        to_reasoner: dict[int, Request] = {}
        for made in captioner.generate(requests):
            case, step = steps[made.key]
            for row in outputs("", requests[made.key].prompt.messages, made):
                keep(case.number, step, row)
            case.take(step, made, watch)
            if case.legible:
                own = prompt_seed(self.seed, "answer", *case.texts())
                to_reasoner[case.number] = Request(case.number, case.question_to_reasoner(), sampled, own)
                reasoner.prefetch([to_reasoner[case.number]])
        asked_last = {number: to_reasoner[number].prompt.messages for number in sorted(to_reasoner)}
        answers = reasoner.generate([to_reasoner[number] for number in asked_last])
        numbered = {case.number: case for case in cases}
        for case in cases:
            while case.number in to_reasoner:
                made = next(answers)
                for row in outputs("", asked_last[made.key], made):
                    keep(made.key, "answer", row)
                numbered[made.key].take("answer", made, watch)
                del to_reasoner[made.key]
            yield case.result()


def answer(
    images: ImageSource | Sequence[ImageSource],
    question: str,
    captioner: str | config.Captioner | Engine = "embedded",
    reasoner: str | config.Reasoner | Engine = "embedded",
    **settings: Any,
) -> Answer:
    """The answer to one question. The models are loaded for it; keep a `Racro` open for several questions.

    Args:
        images: Path, URI, bytes or Pillow image; or several, in the order of the question's `<image>` placeholders.
        question: What is asked.
        captioner: `embedded`, a folder, a hub id, a section of a recipe, or an open engine.
        reasoner: The same.
        settings: As of `Racro`, for example `mode="vote"` or `max_tokens=1024`.

    Raises:
        BadInput: An image, question or model that cannot be used; one line with the remedy.
        EngineLost: An engine that ended.
    """
    with Racro(captioner, reasoner, **settings) as pair:
        return pair.answer(images, question)
