"""Answers in MLflow: a trace for each question with a span for each of its texts. Called by `racro answer --trace`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

from racro.answering.cases import CAPTIONER_STEPS, Answer, Question, Step, Watch, unwatched
from racro.answering.pipeline import Racro
from racro.engines.protocol import Completion
from racro.errors import BadInput
from racro.prompts import attempt_messages, caption_messages, joint_messages


def traced(
    racro: Racro, questions: Iterable[Question | BadInput], watch: Watch = unwatched
) -> Iterator[Answer | BadInput]:
    """`Racro.answer_many`, recorded: a trace for each question, with spans `caption`, `attempt` and `answer`.

    Where many questions travel together a span lasts as long as its text took to come, waiting included.
    """
    mlflow = _tracing()
    racro.open()  # spans are about questions, not about loading models
    traces: dict[int, _Trace] = {}

    def begun() -> Iterator[Question | BadInput]:
        for number, question in enumerate(questions):
            traces[number] = _Trace(question)
            yield question

    def watched(number: int, step: Step, completion: Completion) -> None:
        traces[number].add(step, completion)
        watch(number, step, completion)

    try:
        for number, answer in enumerate(racro.answer_many(begun(), watched)):
            traces.pop(number).end(answer)
            yield answer
    finally:
        for trace in traces.values():
            trace.end(BadInput("not answered: the command ended first"))
        mlflow.flush_trace_async_logging()


class _Trace:
    """One question's spans."""

    def __init__(self, question: Question | BadInput) -> None:
        import mlflow

        self.mlflow = mlflow
        self.since = time.time_ns()
        self.texts: dict[Step, str] = {}
        self.question, self.images = "", [""]
        inputs: dict[str, Any] = {}
        if isinstance(question, Question):
            many = isinstance(question.images, list | tuple)
            self.question = question.question
            self.images = [_name(image) for image in (question.images if many else [question.images])]  # type: ignore[union-attr]
            inputs = {"question": self.question, "images": self.images, "gold": question.gold}
        self.root = mlflow.start_span_no_context("racro", "CHAIN", inputs=inputs, start_time_ns=self.since)

    def add(self, step: Step, completion: Completion) -> None:
        """A text has come."""
        now = time.time_ns()
        if step == "answer":
            messages = joint_messages(self.question, self.texts["caption"], self.texts["attempt"])
        else:
            messages = (caption_messages if step == "caption" else attempt_messages)(self.question, len(self.images))
        inputs = {"messages": messages} | ({"images": self.images} if step in CAPTIONER_STEPS else {})
        span = self.mlflow.start_span_no_context(step, "LLM", self.root, inputs, start_time_ns=self.since)
        outputs = {"text": completion.text, "finish_reason": completion.finish_reason}
        span.set_attributes({"tokens": len(completion.token_ids)})
        span.end(outputs=outputs, end_time_ns=now)
        self.texts[step] = completion.text
        if step == CAPTIONER_STEPS[-1]:
            self.since = now  # caption and attempt are asked together, the reasoner after both

    def end(self, answer: Answer | BadInput) -> None:
        """It is answered, or cannot be."""
        if isinstance(answer, BadInput):
            self.root.end(outputs={"error": str(answer)}, status="ERROR")
        else:
            self.root.end(outputs=json.loads(answer.model_dump_json(exclude_none=True)))


def _name(image: object) -> str:
    return str(image) if isinstance(image, str | os.PathLike) else f"<{type(image).__name__}>"


def _tracing() -> Any:
    """MLflow, set to record into the experiment of the trainings. Loads Prefect too. Raises NoStore."""
    import mlflow

    from tasks.recording import store, track

    mlflow.set_experiment(experiment_id=track.experiment_id(store.client()))
    return mlflow
